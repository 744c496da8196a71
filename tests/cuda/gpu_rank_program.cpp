// Ranks on devices of their own, joined by NCCL, that step through all-reduces while one of them misbehaves.
//   gpu_rank_program TIMEOUT ACTION VICTIM [GROUP]
// Actions at step 5 of the victim: absent, die, throw. Of any rank after an error: ask (what the device has computed,
// as a training does). Another: run. GROUP: of so many ranks each, which have an all-reduce of their own in each step.
#include <signal.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "app/world.h"
#include "backend/cuda/cuda_device.h"
#include "comm/nccl.h"

using namespace plsc;

namespace {

void misbehave(const std::string& action) {
  if (action == "die") ::raise(SIGKILL);
  if (action == "absent") std::this_thread::sleep_for(std::chrono::minutes(10));
  if (action == "throw") fail("the disk is full");
}

int run(World& world, const std::string& action, int victim, int group_size) {
  CudaDevice device(CudaOptions{.device = world.local_rank()});
  const auto nccl = make_nccl_collective({world.local_rank(), device.native_stream(), world.wait_policy(), {}},
                                         world.host_collective());
  device.set_host_wait([&](const std::function<bool()>& done) { nccl->host_wait(done); });
  const auto group = group_size > 0 ? nccl->split(group_size, world.host_collective()) : nullptr;
  const Tensor ones = Tensor::from<float>({1.0F, 1.0F}, {2});
  Tensor t = device.tensor({2}), back(host_allocator(), {2}, Dtype::f32);
  const auto steps = [&] {
    for (int step = 1; step <= 10; ++step) {
      world.note(step, "forward");
      if (step == 5 && world.rank() == victim) misbehave(action);
      device.copy(ones, t);
      if (group) group->all_reduce(t, ReduceOp::sum, "the statistics");
      nccl->all_reduce(t, ReduceOp::sum, "the logit sums");
      if (step % 2 == 0) device.copy(t, back);  // the host waits for the device
      // A heartbeat comes every 200 ms: the monitor has seen a step or two by step 5.
      std::this_thread::sleep_for(std::chrono::milliseconds(150));
    }
  };
  try {
    steps();
  } catch (...) {
    if (action == "ask") device.copy(t, back);
    throw;
  }
  device.set_host_wait({});
  if (world.rank() == 0) std::printf("done: %g\n", static_cast<double>(back.data<float>()[0]));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4 && argc != 5) return 2;
  World::Options options;
  options.timeout = std::atof(argv[1]);
  const int group = argc == 5 ? std::atoi(argv[4]) : 0;
  return run_in_world(options, [&](World& world) { return run(world, argv[2], std::atoi(argv[3]), group); });
}
