// The arena: blocks never overlap, memory comes back, rounds of the same work allocate nothing, and the end of the
// memory is told.
#include "backend/arena.h"

#include <cstring>
#include <map>
#include <random>

#include "backend/cuda/device_segments.h"
#include "standin_test.h"
#include "support/error_text.h"

namespace plsc::test {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

struct TestArena : Arena {
  explicit TestArena(size_t limit = 0) : Arena(make_device_segments(), {limit, [] {}}) {}
  std::byte* take(size_t bytes) { return static_cast<std::byte*>(allocate(bytes)); }
};

/// Sizes as training has them: mostly small, some of several segments.
size_t draw_size(std::mt19937_64& random) {
  const size_t most[] = {1, 4096, kMiB, 8 * kMiB, 24 * kMiB};
  return random() % (most[random() % 5] + 1);
}

/// What lives, by address.
class Model {
 public:
  void add(std::byte* data, size_t bytes) {
    const auto next = live_.lower_bound(data);
    if (next != live_.end()) REQUIRE(data + bytes <= next->first);
    if (next != live_.begin()) {
      const auto before = std::prev(next);
      REQUIRE(before->first + before->second <= data);
    }
    live_[data] = bytes;
    bytes_ += bytes;
  }
  std::byte* remove_any(std::mt19937_64& random) {
    auto it = std::next(live_.begin(), static_cast<std::ptrdiff_t>(random() % live_.size()));
    std::byte* data = it->first;
    bytes_ -= it->second;
    live_.erase(it);
    return data;
  }
  bool empty() const { return live_.empty(); }
  size_t bytes() const { return bytes_; }

 private:
  std::map<std::byte*, size_t> live_;
  size_t bytes_ = 0;
};

int64_t device_allocations() { return standin::counters().device_allocations; }

}  // namespace

TEST_CASE("arena: random requests never overlap and all memory comes back") {
  standin::TestMachine machine;
  const int64_t before = standin::live_device_bytes();
  const uint64_t seed = GENERATE(1u, 2u, 3u);
  std::mt19937_64 random(seed);
  TestArena arena;
  Model model;
  for (int i = 0; i < 3000; ++i) {
    if (!model.empty() && (random() % 5 < 2 || model.bytes() > 200 * kMiB)) {
      arena.release(model.remove_any(random));
    } else {
      const size_t bytes = draw_size(random);
      std::byte* data = arena.take(bytes);
      REQUIRE(data != nullptr);
      REQUIRE(reinterpret_cast<uintptr_t>(data) % Arena::kAlignment == 0);
      REQUIRE(standin::is_device_memory(data, bytes));
      model.add(data, bytes);
    }
    const DeviceMemory memory = arena.memory();
    REQUIRE(memory.in_use >= model.bytes());
    REQUIRE(memory.peak >= memory.in_use);
    REQUIRE(memory.reserved >= memory.in_use);
    if (i % 700 == 699) arena.trim();
  }
  while (!model.empty()) arena.release(model.remove_any(random));
  CHECK(arena.memory().in_use == 0);
  CHECK(static_cast<int64_t>(arena.memory().reserved) == standin::live_device_bytes() - before);
  arena.trim();
  CHECK(arena.memory().reserved == 0);
  CHECK(standin::live_device_bytes() == before);
}

TEST_CASE("arena: the smallest free block that is large enough is used, and neighbours join") {
  standin::TestMachine machine;
  TestArena arena;
  std::byte* a = arena.take(4 * kMiB);
  std::byte* b = arena.take(8 * kMiB);
  std::byte* c = arena.take(4 * kMiB);
  std::byte* d = arena.take(2 * kMiB);
  CHECK(arena.memory().reserved == Arena::kLargeSegment);
  arena.release(b);
  arena.release(d);  // joins the free end of the segment, which has 16 MiB then
  CHECK(arena.take(7 * kMiB) == b);
  arena.release(b);
  CHECK(arena.take(9 * kMiB) == d);
  arena.release(d);
  arena.release(a);
  arena.release(c);
  // All of the segment is one block again.
  CHECK(arena.take(Arena::kLargeSegment) == a);
  CHECK(arena.memory().reserved == Arena::kLargeSegment);
}

TEST_CASE("arena: small requests do not cut up large blocks") {
  standin::TestMachine machine;
  TestArena arena;
  arena.release(arena.take(20 * kMiB));
  const size_t reserved = arena.memory().reserved;
  arena.take(100);
  CHECK(arena.memory().reserved == reserved + Arena::kSmallSegment);
  arena.take(20 * kMiB);
  CHECK(arena.memory().reserved == reserved + Arena::kSmallSegment);
}

TEST_CASE("arena: rounds of the same work allocate nothing after the second") {
  standin::TestMachine machine;
  const uint64_t seed = GENERATE(1u, 2u, 60u, 62u, 68u, 77u, 97u);  // without room to spare, the last five fail
  TestArena arena;
  std::mt19937_64 sizes(seed);
  std::vector<size_t> layers(60);
  for (size_t& bytes : layers) bytes = draw_size(sizes);
  int64_t after_second = 0;
  for (int round = 0; round < 10; ++round) {
    // Forward keeps what backward reads; both use some memory meanwhile.
    std::vector<std::byte*> kept;
    for (const size_t bytes : layers) {
      kept.push_back(arena.take(bytes));
      arena.release(arena.take(bytes / 3 + 1000));
    }
    std::byte* gradient = arena.take(layers.back());
    for (size_t i = layers.size(); i-- > 0;) {
      std::byte* next = arena.take(layers[i]);
      std::byte* workspace = arena.take(layers[i] / 2);
      arena.release(gradient);
      arena.release(kept[i]);
      arena.release(workspace);
      gradient = next;
    }
    arena.release(gradient);
    if (round == 1) after_second = device_allocations();
    if (round > 1) CHECK(device_allocations() == after_second);
  }
}

TEST_CASE("arena: what is kept is given back before there is none") {
  standin::TestMachine machine;
  int waits = 0;
  Arena arena(make_device_segments(), {64 * kMiB, [&waits] { ++waits; }});
  void* large = arena.allocate(40 * kMiB);
  arena.release(large);
  CHECK(waits == 0);
  arena.allocate(60 * kMiB);  // not beside the 40
  CHECK(waits == 1);          // nothing may be freed that the device still works on
  CHECK(arena.memory().reserved == 60 * kMiB);
  // A segment of a small one's usual size has still room, and after it one that is as small as the block.
  arena.allocate(100);
  arena.allocate(3 * kMiB / 2);
  CHECK(arena.memory().reserved <= 64 * kMiB);
}

TEST_CASE("arena: no more memory under a limit") {
  standin::TestMachine machine;
  TestArena arena(64 * kMiB);
  arena.exchange_use(MemoryUse::parameters);
  arena.take(kMiB);
  CHECK(arena.exchange_use(MemoryUse::activations) == MemoryUse::parameters);
  std::byte* first = arena.take(30 * kMiB);
  arena.exchange_use(MemoryUse::workspace);
  const std::string text = error_text([&] { arena.take(40 * kMiB); });
  CHECK(contains_all(text, {"out of GPU memory: asked for 40.0 MiB for workspace",
                            "in use: 31.0 MiB: parameters 1.0 MiB, activations 30.0 MiB", "limit: 64.0 MiB",
                            "free on the device: ", " of 2.0 GiB"}));
  // The error costs nothing: there is room again after a release.
  arena.release(first);
  CHECK(error_text([&] { arena.take(40 * kMiB); }).empty());
}

TEST_CASE("arena: no more memory on the device") {
  standin::TestMachine machine;
  machine.change([](standin::Options& options) {
    options.memory = static_cast<size_t>(standin::live_device_bytes()) + 64 * kMiB;
  });
  TestArena arena;
  arena.release(arena.take(33 * kMiB));
  CHECK(error_text([&] { arena.take(60 * kMiB); }).empty());
  CHECK(contains_all(error_text([&] { arena.take(8 * kMiB); }), {"asked for 8.0 MiB", "free on the device: 4.0 MiB"}));
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("arena: a pool's memory is nobody else's while it lives") {
  standin::TestMachine machine;
  TestArena arena;
  std::byte* before = arena.take(5 * kMiB);
  arena.release(arena.take(6 * kMiB));  // free: the pool must not take it
  const int64_t pool = arena.begin_pool();
  std::byte* inside = arena.take(3 * kMiB);
  CHECK(inside != before + 5 * kMiB);
  std::byte* passing = arena.take(2 * kMiB);
  arena.release(passing);
  CHECK(arena.take(2 * kMiB) == passing);  // its own may be used again inside
  arena.release(passing);
  arena.release(before);  // read by what the pool is for
  arena.end_pool();
  arena.release(inside);
  CHECK(arena.memory().in_use == 0);
  const size_t kept = arena.memory().reserved;
  arena.trim();
  CHECK(arena.memory().reserved == kept);  // both segments have a part that is the pool's

  Model others;
  others.add(inside, 3 * kMiB);
  others.add(passing, 2 * kMiB);
  others.add(before, 5 * kMiB);
  std::vector<std::byte*> taken;
  for (int i = 0; i < 40; ++i) {
    taken.push_back(arena.take(3 * kMiB));
    others.add(taken.back(), 3 * kMiB);
  }
  for (std::byte* data : taken) arena.release(data);

  arena.drop_pool(pool);
  arena.trim();
  CHECK(arena.memory().reserved == 0);
}

TEST_CASE("arena: a pool outlives its owner's blocks and the other way round") {
  standin::TestMachine machine;
  TestArena arena;
  const int64_t first = arena.begin_pool();
  std::byte* a = arena.take(1000);
  arena.end_pool();
  const int64_t second = arena.begin_pool();
  arena.release(a);  // of another pool: it stays there
  CHECK(arena.take(1000) != a);
  arena.end_pool();
  arena.drop_pool(first);
  CHECK(arena.take(1000) == a);
  arena.drop_pool(second);
}

TEST_CASE("arena: nothing is given back while a pool is open") {
  standin::TestMachine machine;
  Arena arena(make_device_segments(), {64 * kMiB, [] { FAIL("a wait while work is recorded"); }});
  arena.release(arena.allocate(40 * kMiB));
  arena.begin_pool();
  CHECK(contains(error_text([&] { arena.allocate(30 * kMiB); }), "kept for reuse: 40.0 MiB"));
  CHECK_THROWS_AS(arena.trim(), LogicError);
  arena.end_pool();
}

TEST_CASE("arena: pools count in the report") {
  standin::TestMachine machine;
  TestArena arena(64 * kMiB);
  arena.begin_pool();
  arena.release(arena.take(20 * kMiB));
  arena.end_pool();
  arena.take(kMiB);
  CHECK(contains_all(error_text([&] { arena.take(50 * kMiB); }),
                     {"kept for reuse: 1.0 MiB; held by recorded steps: 20.0 MiB"}));
}

}  // namespace plsc::test
