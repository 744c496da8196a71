// Ranges over threads, and how many cores there are: affinity masks and control groups.
#include "base/threads.h"

#include <sched.h>

#include <filesystem>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

#include "base/cpu_quota.h"
#include "support/catch.h"
#include "support/temp_folder.h"

using namespace plsc;
using namespace plsc::test;

TEST_CASE("ranges cover every element once, in order, the first ones longer") {
  for (const int64_t n : {0, 1, 2, 7, 64, 1000}) {
    for (const int parts : {1, 2, 3, 8, 70}) {
      std::vector<std::pair<int64_t, int64_t>> seen(static_cast<size_t>(parts), {-1, -1});
      parallel_ranges(n, parts, [&](int64_t begin, int64_t end, int part) {
        seen[static_cast<size_t>(part)] = {begin, end};
      });
      int64_t next = 0;
      for (size_t p = 0; p < seen.size(); ++p) {
        INFO(n << " elements in " << parts << " parts, part " << p);
        CHECK(seen[p].first == next);
        const int64_t length = seen[p].second - seen[p].first;
        CHECK(length == n / parts + (static_cast<int64_t>(p) < n % parts ? 1 : 0));
        next = seen[p].second;
      }
      CHECK(next == n);
    }
  }
}

TEST_CASE("the exception of the lowest part arrives, after all parts are done") {
  std::vector<int> done(8, 0);
  try {
    parallel_ranges(8, 8, [&](int64_t, int64_t, int part) {
      done[static_cast<size_t>(part)] = 1;
      if (part == 3 || part == 6) throw std::runtime_error("part " + std::to_string(part));
    });
    FAIL("nothing was thrown");
  } catch (const std::runtime_error& error) {
    CHECK(std::string(error.what()) == "part 3");
  }
  CHECK(done == std::vector<int>(8, 1));
  CHECK_THROWS_AS(parallel_ranges(1, 1, [](int64_t, int64_t, int) { throw std::out_of_range("x"); }),
                  std::out_of_range);
}

TEST_CASE("ranges may be nested in other threads") {
  std::vector<int64_t> sums(4, 0);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < sums.size(); ++t) {
    threads.emplace_back([&sums, t] {
      std::vector<int64_t> parts(3, 0);
      parallel_ranges(1000, 3, [&](int64_t begin, int64_t end, int part) {
        for (int64_t i = begin; i < end; ++i) parts[static_cast<size_t>(part)] += i;
      });
      sums[t] = parts[0] + parts[1] + parts[2];
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(sums == std::vector<int64_t>(4, 499500));
}

TEST_CASE("the affinity mask counts, not the machine") {
  cpu_set_t before;
  REQUIRE(::sched_getaffinity(0, sizeof before, &before) == 0);
  const std::vector<int> all = affinity_cores();
  CHECK(static_cast<int>(all.size()) == CPU_COUNT(&before));
  CHECK(available_cores() <= static_cast<int>(all.size()));
  CHECK(available_cores() >= 1);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<size_t>(all.back()), &one);
  REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(affinity_cores() == std::vector<int>{all.back()});
  CHECK(available_cores() == 1);
  REQUIRE(::sched_setaffinity(0, sizeof before, &before) == 0);
}

TEST_CASE("the quota of a control group, version 2") {
  const TempFolder root;
  std::filesystem::create_directories(root / "slice/job");
  const std::string own = "0::/slice/job\n";
  CHECK(cpu_quota(own, root.path()) == 0);
  spit(root / "slice/job/cpu.max", "max 100000\n");
  CHECK(cpu_quota(own, root.path()) == 0);
  spit(root / "slice/job/cpu.max", "350000 100000\n");
  CHECK(cpu_quota(own, root.path()) == 3.5);
  spit(root / "slice/cpu.max", "200000 100000\n");  // a parent's limit holds for its children
  CHECK(cpu_quota(own, root.path()) == 2);
  // Inside a container its own group is at the root, whatever the membership file says.
  spit(root / "cpu.max", "150000 100000\n");
  CHECK(cpu_quota("0::/../elsewhere\n", root.path()) == 1.5);
  spit(root / "slice/cpu.max", "not a number\n");
  spit(root / "cpu.max", "");
  CHECK(cpu_quota(own, root.path()) == 3.5);
}

TEST_CASE("the quota of a control group, version 1") {
  const TempFolder root;
  std::filesystem::create_directories(root / "cpu,cpuacct/docker/abc");
  const std::string own = "5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:cpuset:/\n";
  CHECK(cpu_quota(own, root.path()) == 0);
  spit(root / "cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "-1\n");
  spit(root / "cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n");
  CHECK(cpu_quota(own, root.path()) == 0);
  spit(root / "cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "250000\n");
  CHECK(cpu_quota(own, root.path()) == 2.5);
  CHECK(cpu_quota("9:name=systemd:/\n", root.path()) == 0);
  CHECK(cpu_quota("", root.path()) == 0);
}
