// What is under way on NCCL's stream. Of src/comm/nccl.cpp alone: it has vendor types.
#pragma once
#include <cuda_runtime_api.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"

namespace plsc::nccl {

inline void check_cuda(cudaError_t status, const char* call) {
  if (status != cudaSuccess) fail("CUDA: {}: {} ({})", call, cudaGetErrorString(status), cudaGetErrorName(status));
}

/// True once the event has passed.
inline bool passed(cudaEvent_t event) {
  const cudaError_t status = cudaEventQuery(event);
  if (status == cudaErrorNotReady) return false;
  check_cuda(status, "cudaEventQuery");
  return true;
}

/// An event, made once and used again.
class Event {
 public:
  Event() { check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags"); }
  ~Event() { static_cast<void>(cudaEventDestroy(event_)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

/// One collective between its start and its end on the device. Free again when both have let go of it: its request,
/// and the list of what is under way.
struct Flight {
  Event done;
  std::string what;
  int holders = 0;
};

/// What is under way, oldest first, and the flights to be used again.
class Flights {
 public:
  Flight& begin(const char* what) {
    if (free_.empty()) free_.push_back(all_.emplace_back(std::make_unique<Flight>()).get());
    Flight& flight = *free_.back();
    free_.pop_back();
    flight.what = what;
    flight.holders = 2;
    under_way_.push_back(&flight);
    return flight;
  }
  void release(Flight& flight) {
    if (--flight.holders == 0) free_.push_back(&flight);
  }
  /// The oldest that the device has not finished; null where there is none.
  Flight* oldest() {
    while (!under_way_.empty() && passed(under_way_.front()->done.get())) {
      release(*under_way_.front());
      under_way_.pop_front();
    }
    return under_way_.empty() ? nullptr : under_way_.front();
  }

 private:
  std::vector<std::unique_ptr<Flight>> all_;
  std::vector<Flight*> free_;
  std::deque<Flight*> under_way_;
};

}  // namespace plsc::nccl
