// What the emulator finds in wrong kernels, and that it hides nothing by its order.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <set>
#include <vector>

#include "emulator_kernels.h"
#include "emulator_standin.h"
#include "kernels/cuda/launch.h"
#include "support/catch.h"

namespace plsc::kernels::cuda::test {
namespace {

using plsc::test::fault_of;
using plsc::test::misuse_of;

// 16-byte aligned, as device memory is.
struct Output {
  std::vector<double> memory = std::vector<double>(1024);
  float* data() { return reinterpret_cast<float*>(memory.data()); }
};

std::string found(Mistake mistake) {
  Output out;
  return misuse_of([&] { err(mistake, out.data(), nullptr); });
}

template <Mistake mistake>
std::string fault() {
  return fault_of([] {
    Output out;
    err(mistake, out.data(), nullptr);
  });
}

void check_contains(const std::string& text, const std::vector<std::string>& parts) {
  INFO(text);
  for (const std::string& part : parts) {
    INFO("expected: " << part);
    CHECK(text.find(part) != std::string::npos);
  }
}

TEST_CASE("a message names the launch, the block and the thread") {
  check_contains(found(Mistake::different_barriers), {"err (emulator_wrong_kernels.cu:", "block (0, 0), thread ",
                                                      "comes to __syncthreads (", "but thread "});
}

TEST_CASE("threads that miss a barrier") {
  // Which of the two comes first is drawn; either is told of.
  check_contains(found(Mistake::thread_ends_before_barrier), {"thread ", "__syncthreads (emulator_wrong_kernels.cu:"});
  check_contains(found(Mistake::thread_ends_while_others_wait), {"thread 63", "__syncthreads"});
}

TEST_CASE("lanes that miss an exchange") {
  check_contains(found(Mistake::lane_ends_before_shuffle), {"__shfl_xor_sync of 4 bytes (device.h:"});
  check_contains(found(Mistake::lane_ends_while_others_shuffle), {"__shfl_sync of 4 bytes"});
  check_contains(found(Mistake::different_exchanges), {"__shfl_xor_sync", "__shfl_down_sync"});
  check_contains(found(Mistake::different_types), {"of 4 bytes", "of 8 bytes"});
  check_contains(found(Mistake::shuffle_and_barrier), {"__shfl_sync", "__syncthreads"});
  check_contains(found(Mistake::barrier_and_shuffle), {"__shfl_sync", "__syncthreads"});
  check_contains(found(Mistake::some_lanes_in_mask), {"0x0000ffff"});
}

TEST_CASE("a kernel that never ends") { check_contains(found(Mistake::endless), {"does not end"}); }

TEST_CASE("writes around dynamic shared memory") {
  check_contains(found(Mistake::writes_behind_shared), {"err (", "writes outside the 252 bytes"});
  check_contains(found(Mistake::writes_before_shared), {"writes outside the 252 bytes"});
}

TEST_CASE("misaligned accesses") {
  check_contains(found(Mistake::misaligned_vector), {"accesses 16 bytes", "not aligned"});
  check_contains(found(Mistake::misaligned_atomic), {"accesses 4 bytes", "not aligned"});
}

TEST_CASE("memory faults") {
  check_contains(fault<Mistake::reads_behind_shared>(), {"beyond the 252 bytes of dynamic shared memory", "thread 6"});
  check_contains(fault<Mistake::large_stack>(), {"overflows its stack"});
#ifndef PLSC_SANITIZE  // which tells by itself
  check_contains(fault<Mistake::no_memory>(), {"where there is no memory"});
#endif
}

TEST_CASE("a pointer to host memory") {
  Output out;
  const plsc::test::HostMemory host(out.data());
  const std::string text = misuse_of([&] { rely_on_lock_step(out.data(), nullptr); });
  check_contains(text, {"rely_on_lock_step (", "argument 1 is ", "not device memory"});
}

TEST_CASE("a right kernel runs after a wrong one") {
  CHECK_FALSE(found(Mistake::different_exchanges).empty());
  std::vector<int> visits(3 * 64);
  visit(visits.data(), 3, 1, 64, nullptr);
  CHECK(std::all_of(visits.begin(), visits.end(), [](int n) { return n == 1; }));
}

TEST_CASE("shared memory is NaN in every block until it is written") {
  constexpr int64_t blocks = 9;
  std::vector<float> out(blocks * 64);
  for (int launches = 0; launches < 2; ++launches) {
    read_unwritten(out.data(), blocks, nullptr);
    CHECK(std::all_of(out.begin(), out.end(), [](float value) { return std::isnan(value); }));
  }
}

TEST_CASE("text that relies on lock-step is wrong") {
  Output out;
  rely_on_lock_step(out.data(), nullptr);
  CHECK(std::any_of(out.data(), out.data() + 32, [](float value) { return std::isnan(value); }));
}

std::vector<int> order_of(int64_t blocks, int threads) {
  std::vector<int> order(static_cast<size_t>(blocks * threads));
  int next = 0;
  note_order(order.data(), &next, blocks, threads, nullptr);
  return order;
}

TEST_CASE("the order of threads, warps and blocks is drawn") {
  const std::vector<int> order = order_of(50, 128);
  const auto in_order = [&](size_t step, int unit) {
    for (size_t i = step; i < order.size(); i += step) {
      if (order[i] / unit < order[i - step] / unit) return false;
    }
    return true;
  };
  CHECK_FALSE(in_order(1, 1));      // lanes
  CHECK_FALSE(in_order(32, 32));    // warps
  CHECK_FALSE(in_order(128, 128));  // blocks
  std::set<std::vector<int>> orders;
  for (int i = 0; i < 20; ++i) orders.insert(order_of(1, 64));
  CHECK(orders.size() > 15);
}

TEST_CASE("launches beyond the device's limits") {
  int visits = 0;
  const auto refused = [&](int64_t blocks, int64_t blocks_y, int threads) {
    try {
      visit(&visits, blocks, blocks_y, threads, nullptr);
    } catch (const LaunchError& error) {
      return std::string(error.what()).starts_with("visit (emulator_kernels.cu:");
    }
    return false;
  };
  CHECK(refused(int64_t{1} << 31, 1, 32));
  CHECK(refused(-1, 1, 32));
  CHECK(refused(1, 65536, 32));
  CHECK(refused(1, 1, 0));
  CHECK(refused(1, 1, 33));
  CHECK(refused(1, 1, 1056));
  CHECK_FALSE(refused(0, 1, 32));  // runs nothing
  CHECK_FALSE(refused(1, 0, 32));
  CHECK(visits == 0);
  CHECK_THROWS_AS(reverse(nullptr, nullptr, 1, 8192, nullptr), LaunchError);
}

TEST_CASE("blocks for a number of items") {
  CHECK(blocks_for(0, 256) == 0);
  CHECK(blocks_for(1, 256) == 1);
  CHECK(blocks_for(256, 256) == 1);
  CHECK(blocks_for(257, 256) == 2);
  CHECK(blocks_for(1025, 256, 4) == 2);
  CHECK(blocks_for(INT64_MAX, 256) == kManyBlocks);
}

}  // namespace
}  // namespace plsc::kernels::cuda::test
