// Memory that limits leave, from trees of control groups as systems have them.
#include "base/memory.h"

#include <filesystem>

#include "support/catch.h"
#include "support/temp_folder.h"

using namespace plsc;
using namespace plsc::test;

TEST_CASE("memory of a control group, version 2: the tightest of the own group and its parents") {
  const TempFolder root;
  std::filesystem::create_directories(root / "slice/job");
  const std::string own = "0::/slice/job\n";
  CHECK_FALSE(group_memory(own, root.path()));
  spit(root / "slice/job/memory.max", "max\n");
  spit(root / "slice/job/memory.current", "700\n");
  CHECK_FALSE(group_memory(own, root.path()));
  spit(root / "slice/memory.max", "1000\n");
  spit(root / "slice/memory.current", "800\n");
  CHECK(group_memory(own, root.path()) == 200);
  spit(root / "slice/memory.stat", "anon 500\ninactive_anon 7\ninactive_file 150\nactive_file 100\n");
  CHECK(group_memory(own, root.path()) == 350);
  spit(root / "slice/job/memory.max", "720\n");
  CHECK(group_memory(own, root.path()) == 20);
  spit(root / "slice/job/memory.current", "900\n");  // above its limit, which was lowered
  CHECK(group_memory(own, root.path()) == 0);
  // Inside a container its own group is at the root, whatever the membership file says.
  spit(root / "memory.max", "5000\n");
  spit(root / "memory.current", "1000\n");
  CHECK(group_memory("0::/../elsewhere\n", root.path()) == 4000);
  spit(root / "memory.max", "not a number\n");
  CHECK_FALSE(group_memory("0::/../elsewhere\n", root.path()));
}

TEST_CASE("memory of a control group, version 1") {
  const TempFolder root;
  std::filesystem::create_directories(root / "memory/docker/abc");
  const std::string own = "5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n";
  CHECK_FALSE(group_memory(own, root.path()));
  spit(root / "memory/docker/abc/memory.limit_in_bytes", "1000000\n");
  spit(root / "memory/docker/abc/memory.usage_in_bytes", "900000\n");
  CHECK(group_memory(own, root.path()) == 100000);
  spit(root / "memory/docker/abc/memory.stat", "inactive_file 1\ntotal_inactive_file 600000\n");
  CHECK(group_memory(own, root.path()) == 700000);
  spit(root / "memory/memory.limit_in_bytes", "9223372036854771712\n");  // none
  spit(root / "memory/memory.usage_in_bytes", "900000\n");
  CHECK(group_memory(own, root.path()) == 700000);
  CHECK_FALSE(group_memory("9:name=systemd:/\n", root.path()));
}

TEST_CASE("this machine has some memory") {
  CHECK(available_memory() > 1 << 20);
  CHECK(known_memory().value() > 1 << 20);
}
