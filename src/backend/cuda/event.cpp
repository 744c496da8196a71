#include "backend/cuda/event.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "backend/cuda/check.h"

namespace plsc {

Stream::Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"); }

Stream::~Stream() { cudaStreamDestroy(stream_); }

Event::Event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags"); }

Event::~Event() {
  if (event_ != nullptr) cudaEventDestroy(event_);
}

void Event::record(cudaStream_t stream) { check(cudaEventRecord(event_, stream), "cudaEventRecord"); }

bool reached(cudaEvent_t event) {
  const cudaError_t status = cudaEventQuery(event);
  if (status == cudaErrorNotReady) {
    cudaGetLastError();  // no error, but it would be taken for one of a later call's
    return false;
  }
  check(status, "cudaEventQuery");
  return true;
}

void Event::order(cudaStream_t stream) const { check(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent"); }

namespace {

/// Short waits end at once; long ones leave the core to others, by sleeping (why not by yielding: comm/wait.cpp).
void poll(const std::function<bool()>& done) {
  constexpr int kBusyPolls = 200;
  constexpr auto kLongestPause = std::chrono::microseconds(200);
  auto pause = std::chrono::microseconds(2);
  for (int polls = 0; !done(); ++polls) {
    if (polls < kBusyPolls) continue;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, kLongestPause);
  }
}

}  // namespace

void Waiter::until(const std::function<bool()>& done) const { hook_ ? hook_(done) : poll(done); }

void Waiter::wait(const Event& event) const {
  if (event.done()) return;
  until([&event] { return event.done(); });
}

}  // namespace plsc
