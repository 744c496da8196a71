// The decoded cache: one rank, several processes, crashes.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <set>
#include <thread>

#include "data/pixel_cache.h"
#include "data_support.h"

using namespace plsc;
using namespace plsc::test;

namespace {

PixelCacheOptions shared(const std::string& key, int ranks) {
  PixelCacheOptions o;
  o.key = key;
  o.local_ranks = ranks;
  o.limit = 1 << 20;
  o.samples = 100;
  o.sample_bytes = 12;
  return o;
}

std::string unique_key(const char* name) { return fmt::format("{}-{}", name, ::getpid()); }

std::vector<uint8_t> pixels_of(int64_t i) { return std::vector<uint8_t>(12, static_cast<uint8_t>(i * 3)); }

bool holds(const PixelCache& cache, int64_t i) {
  std::vector<uint8_t> out(12);
  int64_t label = -1;
  if (!cache.get(i, out, label)) return false;
  return out == pixels_of(i) && label == i + 1000;
}

/// The meeting files that are there now.
std::set<std::string> meeting_files() {
  std::set<std::string> found;
  for (const char* folder : {"/dev/shm", "/tmp"}) {
    if (!std::filesystem::exists(folder)) continue;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      if (name.rfind("plsc-cache-", 0) == 0) found.insert(entry.path().string());
    }
  }
  return found;
}

/// Runs `body` in a child process; its exit status.
template <class Body>
pid_t child(Body&& body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    int status = 3;
    try {
      status = body();
    } catch (...) {
    }
    ::_exit(status);
  }
  return pid;
}
int status_of(pid_t pid) {
  int status = -1;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("memory of one rank: put and get, within the limit") {
  PixelCacheOptions o = shared("", 1);
  const auto cache = PixelCache::open(o);
  CHECK(cache->capacity() == 100);
  CHECK(!holds(*cache, 5));
  cache->put(5, pixels_of(5), 1005);
  CHECK(holds(*cache, 5));
  o.limit = 64 + 128 + 21 * 10;
  const auto small = PixelCache::open(o);
  CHECK(small->capacity() == 10);
  small->put(10, pixels_of(10), 1010);
  CHECK(!holds(*small, 10));
  CHECK(contains(small->description(), "10 of 100"));
  CHECK(contains(small->description(), "data.cache_limit"));
  o.local_ranks = 2;  // without a key each rank has its part
  CHECK(PixelCache::open(o)->capacity() < 6);
  o.limit = 0;
  CHECK(PixelCache::open(o)->capacity() == 100);
}

TEST_CASE("ranks of one node share: what one puts the other gets, and no file stays") {
  const auto before = meeting_files();
  const std::string key = unique_key("share");
  const auto first = PixelCache::open(shared(key, 3));
  CHECK(meeting_files().size() == before.size() + 1);
  first->put(1, pixels_of(1), 1001);
  const pid_t other = child([&] {
    const auto cache = PixelCache::open(shared(key, 3));
    if (!holds(*cache, 1)) return 1;
    cache->put(2, pixels_of(2), 1002);
    return 0;
  });
  CHECK(status_of(other) == 0);
  CHECK(holds(*first, 2));
  const auto third = PixelCache::open(shared(key, 3));
  CHECK(meeting_files() == before);
  CHECK(holds(*third, 1));
  third->put(7, pixels_of(7), 1007);
  CHECK(holds(*first, 7));
  // The next job with the same key begins anew.
  const auto next = PixelCache::open(shared(key, 2));
  CHECK(!holds(*next, 1));
}

TEST_CASE("a creator that crashed before the others came is replaced") {
  const auto before = meeting_files();
  const std::string key = unique_key("crash");
  const pid_t doomed = child([&] {
    const auto cache = PixelCache::open(shared(key, 2));
    ::kill(::getpid(), SIGKILL);
    return 0;
  });
  CHECK(status_of(doomed) == -1);
  CHECK(meeting_files().size() == before.size() + 1);  // left behind, and worth nothing
  const auto first = PixelCache::open(shared(key, 2)), second = PixelCache::open(shared(key, 2));
  first->put(4, pixels_of(4), 1004);
  CHECK(holds(*second, 4));
  CHECK(meeting_files() == before);
}

TEST_CASE("a creator that leaves early takes its file along") {
  const auto before = meeting_files();
  { const auto cache = PixelCache::open(shared(unique_key("early"), 2)); }
  CHECK(meeting_files() == before);
}

TEST_CASE("ranks that do not mean the same data are refused") {
  const std::string key = unique_key("other");
  const auto first = PixelCache::open(shared(key, 3));
  PixelCacheOptions o = shared(key, 3);
  o.samples = 99;
  CHECK(contains(error_of([&] { PixelCache::open(o); }), "other data"));
}

TEST_CASE("many ranks come at once") {
  const std::string key = unique_key("rush");
  std::vector<pid_t> ranks;
  for (int r = 0; r < 6; ++r) {
    ranks.push_back(child([&, r] {
      const auto cache = PixelCache::open(shared(key, 6));
      for (int64_t i = r; i < 100; i += 6) cache->put(i, pixels_of(i), i + 1000);
      for (int tries = 0; tries < 1000; ++tries) {
        int64_t seen = 0;
        for (int64_t i = 0; i < 100; ++i) seen += holds(*cache, i);
        if (seen == 100) return 0;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
      return 1;
    }));
  }
  for (const pid_t pid : ranks) CHECK(status_of(pid) == 0);
}
