// NCCL between devices, one a rank, under mpirun: every collective against plain sums, in many orders of the streams.
#include "comm/nccl.h"

#include <chrono>
#include <thread>

#include "backend/cuda/cuda_device.h"
#include "dist/mpi_main.h"
#include "standin.h"
#include "support/catch.h"
#include "support/collective_cases.h"

using namespace plsc;

namespace {

/// A device for each rank, joined as the composition root joins them.
struct Joined {
  Joined() : device(CudaOptions{.device = test::world().local_rank()}) {
    World& world = test::world();
    nccl = make_nccl_collective({world.local_rank(),
                                 device.native_stream(),
                                 world.wait_policy(),
                                 {cuda_narrow_bf16, cuda_sum_bf16, cuda_widen_bf16}},
                                world.host_collective());
    device.set_host_wait([this](const std::function<bool()>& done) { nccl->host_wait(done); });
  }
  ~Joined() { device.set_host_wait({}); }
  Joined(const Joined&) = delete;
  Joined& operator=(const Joined&) = delete;

  CudaDevice device;
  std::unique_ptr<NcclCollective> nccl;
};

/// Other choices of what runs when, the same on no two ranks.
void reseed(uint64_t seed) {
  standin::Options options = standin::options();
  options.seed = seed * 100 + static_cast<uint64_t>(test::world().rank());
  standin::set_options(options);
}

}  // namespace

TEST_CASE("every collective of NCCL's, whatever order the streams run in") {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    reseed(seed);
    Joined joined;
    CHECK(joined.nccl->rank() == test::world().rank());
    CHECK(joined.nccl->size() == test::world().size());
    test::CollectiveCases cases(joined.device, *joined.nccl);
    CHECK_NOTHROW(cases.all());
    CHECK_NOTHROW(cases.refuses_host_memory());
  }
}

TEST_CASE("groups of ranks by NCCL: every collective, in the order of all ranks' stream") {
  World& world = test::world();
  for (int ranks = 1; ranks < std::max(2, world.size()); ++ranks) {
    if (world.size() % ranks != 0) continue;
    reseed(static_cast<uint64_t>(10 + ranks));
    Joined joined;
    const auto group = joined.nccl->split(ranks, world.host_collective());
    CHECK(group->rank() == world.rank() % ranks);
    CHECK(group->size() == ranks);
    Tensor bucket = joined.device.tensor({50'000});
    joined.device.copy(Tensor::from<float>(std::vector<float>(50'000, 1.0F), {50'000}), bucket);
    Pending pending = joined.nccl->start_all_reduce(bucket, ReduceOp::sum);
    CHECK_NOTHROW(test::CollectiveCases(joined.device, *group).all());
    joined.nccl->wait(std::move(pending), "a bucket");
    joined.nccl->all_reduce(bucket, ReduceOp::sum);  // all ranks again
    Tensor back(host_allocator(), {50'000}, Dtype::f32);
    joined.device.copy(bucket, back);
    CHECK(back.values<float>() == std::vector<float>(50'000, static_cast<float>(world.size() * world.size())));
  }
}

TEST_CASE("a wait leaves the host free; a barrier does not") {
  Joined joined;
  World& world = test::world();
  Tensor t = joined.device.zeros({1 << 16});
  joined.device.synchronize();
  const int64_t before = standin::counters().synchronisations;
  for (int i = 0; i < 5; ++i) joined.nccl->all_reduce(t, ReduceOp::sum, "a bucket");
  CHECK(standin::counters().synchronisations == before);
  // Rank 0 comes last; nobody leaves before.
  const auto now = [] { return static_cast<int64_t>(std::chrono::steady_clock::now().time_since_epoch().count()); };
  if (world.rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const int64_t entered = now();
  joined.nccl->barrier();
  const int64_t left = now();
  for (const int64_t other : gather_values(world.host_collective(), entered)) CHECK(left >= other);
}

TEST_CASE("a request that nobody waits for keeps its memory until NCCL is done with it") {
  Joined joined;
  const int64_t n = 10'000;
  const Tensor ones = Tensor::from<float>(std::vector<float>(n, 1.0F), {n});
  for (int round = 0; round < 5; ++round) {
    // Rank 0 comes late: until then the others' sums are under way.
    if (test::world().rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    {
      Tensor forgotten = joined.device.zeros({n});
      const Pending pending = joined.nccl->start_all_reduce(forgotten, ReduceOp::sum);
    }
    Tensor next = joined.device.tensor({n});  // the same memory again
    joined.device.copy(ones, next);
    joined.nccl->barrier();
    Tensor back(host_allocator(), {n}, Dtype::f32);
    joined.device.copy(next, back);
    CHECK(back.values<float>() == ones.values<float>());
  }
}

TEST_CASE("events are made once and used again") {
  Joined joined;
  Tensor t = joined.device.zeros({100});
  joined.nccl->all_reduce(t, ReduceOp::sum);
  joined.device.synchronize();
  const int64_t before = standin::counters().device_allocations;
  for (int i = 0; i < 50; ++i) {
    joined.nccl->all_reduce(t, ReduceOp::sum);
    if (i % 5 == 0) joined.device.synchronize();
  }
  joined.device.synchronize();
  CHECK(standin::counters().device_allocations == before);
}

TEST_CASE("NCCL has a version") { CHECK(nccl_version().rfind("2.", 0) == 0); }
