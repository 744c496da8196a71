// The ring of uploads: nothing is overwritten on its way, whatever order the device works in, and the host waits only
// where the ring is full.
#include "backend/cuda/pinned_ring.h"

#include <random>

#include "standin_test.h"

namespace plsc::test {
namespace {

constexpr size_t kRing = 4096;

std::vector<uint8_t> numbered(size_t bytes, size_t number) {
  std::vector<uint8_t> values(bytes);
  for (size_t i = 0; i < bytes; ++i) values[i] = static_cast<uint8_t>(i * 31 + number * 17 + 1);
  return values;
}

}  // namespace

TEST_CASE("ring: every upload arrives as it was, and its source may change at once") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    standin::TestMachine machine(seed);
    Waiter waiter;
    PinnedRing ring(kRing, waiter);
    Stream first, second;
    std::mt19937_64 random(seed);
    std::vector<size_t> sizes;
    std::vector<std::unique_ptr<standin::DeviceArray<uint8_t>>> targets;
    for (size_t i = 0; i < 60; ++i) {
      // Some fill several pieces, some the whole ring several times.
      sizes.push_back(1 + random() % (i % 10 == 0 ? 3 * kRing : 700));
      targets.push_back(std::make_unique<standin::DeviceArray<uint8_t>>(sizes.back()));
      std::vector<uint8_t> source = numbered(sizes.back(), i);
      const Stream& stream = random() % 2 ? first : second;
      if (random() % 3 == 0) standin::slow_down(stream.get(), static_cast<int>(random() % 100));
      ring.upload(source.data(), targets.back()->get(), source.size(), stream.get());
      std::fill(source.begin(), source.end(), uint8_t{0});
    }
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    for (size_t i = 0; i < targets.size(); ++i) {
      INFO("seed " << seed << ", upload " << i << " of " << sizes[i] << " bytes");
      REQUIRE(targets[i]->read() == numbered(sizes[i], i));
    }
  }
}

TEST_CASE("ring: uploads keep their stream's order") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    standin::TestMachine machine(seed);
    Waiter waiter;
    PinnedRing ring(kRing, waiter);
    Stream stream;
    const standin::DeviceArray<uint8_t> target(500);
    for (size_t i = 0; i < 30; ++i) ring.upload(numbered(500, i).data(), target.get(), 500, stream.get());
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    REQUIRE(target.read() == numbered(500, 29));
  }
}

TEST_CASE("ring: the host waits only for room") {
  standin::TestMachine machine;
  Waiter waiter;
  int waits = 0;
  waiter.set_hook([&waits](const std::function<bool()>& done) {
    ++waits;
    while (!done()) continue;
  });
  PinnedRing ring(kRing, waiter);
  Stream stream;
  // Behind something that does not end yet, nothing can be sent.
  bool go = false;
  standin::enqueue_polled(stream.get(), "held up", [&go] { return go; });
  const standin::DeviceArray<uint8_t> target(kRing);
  const std::vector<uint8_t> source = numbered(kRing, 1);
  ring.upload(source.data(), target.get(), kRing, stream.get());
  CHECK(waits == 0);
  go = true;
  ring.upload(source.data(), target.get(), kRing / 4, stream.get());
  CHECK(waits <= 1);  // the device may have been there already
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
}

TEST_CASE("ring: a wait for room ends where the hook says so") {
  standin::TestMachine machine;
  Waiter waiter;
  waiter.set_hook([](const std::function<bool()>& done) {
    for (int i = 0; i < 100; ++i) {
      if (done()) return;
    }
    fail("rank 1 is gone");
  });
  PinnedRing ring(kRing, waiter);
  Stream stream;
  bool go = false;
  standin::enqueue_polled(stream.get(), "held up", [&go] { return go; });
  const standin::DeviceArray<uint8_t> target(2 * kRing);
  const std::vector<uint8_t> source = numbered(2 * kRing, 1);
  CHECK_THROWS_AS(ring.upload(source.data(), target.get(), 2 * kRing, stream.get()), Error);
  go = true;
  ring.upload(source.data(), target.get(), 2 * kRing, stream.get());
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(target.read() == source);
}

TEST_CASE("ring: a full ring allocates nothing more") {
  standin::TestMachine machine;
  Waiter waiter;
  PinnedRing ring(kRing, waiter);
  Stream stream;
  const standin::DeviceArray<uint8_t> target(kRing);
  const std::vector<uint8_t> source = numbered(kRing, 1);
  const int64_t before = standin::counters().pinned_allocations;
  for (int i = 0; i < 20; ++i) ring.upload(source.data(), target.get(), kRing, stream.get());
  CHECK(standin::counters().pinned_allocations == before);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
}

}  // namespace plsc::test
