// The memory that the CPU device keeps: what is handed out again, what is counted, what comes of concurrent use.
#include "backend/cpu/block_cache.h"

#include <sys/resource.h>

#include <cstring>
#include <thread>
#include <vector>

#include "backend/cpu/cpu_device.h"
#include "base/error.h"
#include "support/catch.h"

namespace plsc {
namespace {

long page_faults() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

}  // namespace

TEST_CASE("a size class wastes at most an eighth and is stable") {
  for (size_t bytes : {size_t{0}, size_t{1}, size_t{64}, size_t{65}, size_t{1000}, size_t{4097}, size_t{1} << 20,
                       (size_t{1} << 30) + 1, size_t{103219201}}) {
    const size_t size = BlockCache::size_class(bytes);
    INFO(bytes << " in a block of " << size);
    CHECK(size >= bytes);
    CHECK(size >= 64);
    CHECK(size % 64 == 0);
    CHECK(size <= std::max<size_t>(bytes + bytes / 8 + 64, 64));
    CHECK(BlockCache::size_class(size) == size);
  }
}

TEST_CASE("blocks are aligned, reused and counted") {
  BlockCache cache;
  void* a = cache.allocate(1000);
  void* b = cache.allocate(5 << 20);
  CHECK(reinterpret_cast<uintptr_t>(a) % 64 == 0);
  CHECK(reinterpret_cast<uintptr_t>(b) % 64 == 0);
  const size_t both = BlockCache::size_class(1000) + BlockCache::size_class(5 << 20);
  CHECK(cache.in_use() == both);
  cache.release(b, 5 << 20);
  CHECK(cache.in_use() == BlockCache::size_class(1000));
  CHECK(cache.peak() == both);
  CHECK(cache.reserved() == both);
  CHECK(cache.allocate(5 << 20) == b);
  CHECK(cache.reserved() == both);
  cache.release(a, 1000);
  cache.release(b, 5 << 20);
  cache.trim();
  CHECK(cache.in_use() == 0);
  CHECK(cache.reserved() == 0);
  CHECK(cache.peak() == both);
}

TEST_CASE("a repeated pattern of allocations touches no new page") {
  BlockCache cache;
  const auto step = [&] {
    std::vector<std::pair<void*, size_t>> blocks;
    for (size_t bytes : {size_t{40} << 20, size_t{10} << 20, size_t{40} << 20, size_t{100} << 10}) {
      blocks.emplace_back(cache.allocate(bytes), bytes);
      std::memset(blocks.back().first, 1, bytes);
    }
    for (auto& [data, bytes] : blocks) cache.release(data, bytes);
  };
  step();
  const long before = page_faults();
  for (int i = 0; i < 5; ++i) step();
  // 90 MiB are 23,000 small pages; a few faults may come from elsewhere in the process.
  CHECK(page_faults() - before < 100);
}

#ifndef PLSC_SANITIZE  // the sanitizer's allocator ends the process instead of returning null
TEST_CASE("too large a request is an error that says how much") {
  BlockCache cache;
  void* kept = cache.allocate(100);
  CHECK_THROWS_AS(cache.allocate(size_t{1} << 60), Error);
  CHECK(cache.in_use() == BlockCache::size_class(100));
  cache.release(kept, 100);
}

TEST_CASE("the error of a CPU without memory names the key for what it was asked for") {
  CpuDevice device(1);
  const auto told = [&] {
    try {
      device.allocate(size_t{1} << 60);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  {
    const MemoryScope scope(device, MemoryUse::centers);
    CHECK(told().find("for class centres") != std::string::npos);
    CHECK(told().find("hint: use more ranks: each holds its share of the classes") != std::string::npos);
    CHECK(told().find("train.batch_size") == std::string::npos);
  }
  CHECK(told().find("hint: lower train.batch_size") != std::string::npos);
  CHECK(told().find("class centres") == std::string::npos);
}
#endif

TEST_CASE("threads share a cache") {
  BlockCache cache;
  std::vector<std::thread> threads;
  std::vector<int> clean(4, 1);
  for (size_t t = 0; t < clean.size(); ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 2000; ++i) {
        const size_t bytes = 64 + 977 * ((i * 7 + t) % 50);
        auto* data = static_cast<unsigned char*>(cache.allocate(bytes));
        std::memset(data, static_cast<int>(t + 1), bytes);
        std::this_thread::yield();
        if (data[0] != t + 1 || data[bytes - 1] != t + 1) clean[t] = 0;
        cache.release(data, bytes);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(clean == std::vector<int>(4, 1));
  CHECK(cache.in_use() == 0);
}

}  // namespace plsc
