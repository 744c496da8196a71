// A whole launch: its blocks in a drawn order, what their memory is checked for, and what a kernel's text calls.
#include "emulator.h"

#include <cstdlib>
#include <mutex>

#include "block.h"
#include "fault_handler.h"
#include "shared_memory.h"
#include "standin.h"

namespace plsc::kernels::cuda {

thread_local constinit uint3 threadIdx{};
thread_local constinit uint3 blockIdx{};
thread_local constinit uint3 blockDim{};
thread_local constinit uint3 gridDim{};

}  // namespace plsc::kernels::cuda

namespace plsc::standin {

using kernels::cuda::blockDim;
using kernels::cuda::blockIdx;
using kernels::cuda::gridDim;
using kernels::cuda::threadIdx;

namespace {

constexpr size_t kMostShared = size_t{48} << 10;

// What all launches of the process share: there is one set of `static` variables, so one kernel runs at a time.
struct Machine {
  std::mutex one_at_a_time;
  StaticShared static_shared;
  DynamicShared dynamic_shared{kMostShared};
  uint64_t launches = 0;
};

Machine& machine() {
  static Machine all;
  return all;
}

// The fibres belong to the thread whose stack they leave.
BlockRunner& runner() {
  thread_local BlockRunner own;
  return own;
}

thread_local const emulator::Launch* running = nullptr;

uint64_t seed() {
  const char* text = std::getenv("PLSC_STANDIN_SEED");
  return text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
}

// Called on a stack of its own, while the running thread stands at the access.
void explain_fault(const void* address) {
  if (runner().overflows_at(address)) misuse("{} overflows its stack", running_thread());
  if (machine().dynamic_shared.overflows_at(address)) {
    misuse("{} reads or writes beyond the {} bytes of dynamic shared memory", running_thread(), running->shared);
  }
#ifndef PLSC_SANITIZE  // the sanitizer knows more
  misuse("{} reads or writes {}, where there is no memory", running_thread(), address);
#endif
}

void run_block(const emulator::Launch& launch, int64_t blocks_done, const std::function<void()>& thread, Draw& draw) {
  Machine& all = machine();
  all.static_shared.before_block(blocks_done);
  all.dynamic_shared.before_block(launch.shared);
  runner().run(launch.threads, thread, draw);
  if (!all.dynamic_shared.intact()) {
    misuse("{}: block ({}, {}) writes outside the {} bytes of its dynamic shared memory", launch.name, blockIdx.x,
           blockIdx.y, launch.shared);
  }
  all.static_shared.after_block(blocks_done + 1);
}

}  // namespace

std::string running_thread() {
  return fmt::format("{}: block ({}, {}), thread {}", running->name, blockIdx.x, blockIdx.y, threadIdx.x);
}

}  // namespace plsc::standin

namespace plsc::kernels::cuda::emulator {

void queue(const Launch& launch, cudaStream_t stream, std::function<void()> work) {
  standin::enqueue(stream, launch.name, std::move(work));
}

void run(const Launch& launch, const std::function<void()>& thread) {
  standin::Machine& all = standin::machine();
  const std::lock_guard lock(all.one_at_a_time);
  const standin::FaultHandler handler(&standin::explain_fault);
  standin::Draw draw(standin::seed() + ++all.launches);
  standin::running = &launch;
  blockDim.x = static_cast<unsigned>(launch.threads);
  gridDim.x = static_cast<unsigned>(launch.blocks);
  gridDim.y = static_cast<unsigned>(launch.blocks_y);
  const int64_t blocks = launch.blocks * launch.blocks_y;
  standin::Walk walk(blocks, draw);
  for (int64_t done = 0; done < blocks; ++done) {
    const int64_t block = walk.next();
    blockIdx.x = static_cast<unsigned>(block % launch.blocks);
    blockIdx.y = static_cast<unsigned>(block / launch.blocks);
    standin::run_block(launch, done, thread, draw);
  }
}

void meet_block(Place place) { standin::runner().meet_block(place); }

const uint64_t* meet_warp(Meeting meeting, Place place, unsigned mask, uint64_t value, size_t bytes) {
  if (mask != 0xFFFFFFFFu) {
    standin::misuse("{} meets lanes {:#010x} of its warp, not all", standin::running_thread(), mask);
  }
  return standin::runner().meet_warp(meeting, place, bytes, value);
}

void* dynamic_shared() { return standin::machine().dynamic_shared.begin(); }

void misaligned(const void* p, size_t bytes) {
  standin::misuse("{} accesses {} bytes at once at {}, which is not aligned to that", standin::running_thread(), bytes,
                  p);
}

void check_pointer(const Launch& launch, int position, const void* p) {
  if (p == nullptr || standin::is_device_memory(p, 1)) return;
  if (standin::is_device_memory(static_cast<const std::byte*>(p) - 1, 1)) return;
  standin::misuse("{}: argument {} is {}, which is not device memory", launch.name, position, p);
}

}  // namespace plsc::kernels::cuda::emulator
