// The times of places in a GPU's order on the host's clock: events that keep the time, and one of them whose host time
// is known.
#pragma once
#include <cuda_runtime_api.h>

#include <memory>

#include "backend/cuda/event.h"

namespace plsc {

class DeviceClock {
 public:
  /// Both outlive the clock; its marks may outlive it, but not the device.
  DeviceClock(cudaStream_t stream, const Waiter& waiter);

  /// Device::mark. The first one waits for the device.
  std::shared_ptr<const TimeMark> mark();
  /// Device::set_clock.
  void set();

 private:
  class Events;
  class Mark;
  std::shared_ptr<Mark> record() const;

  cudaStream_t stream_;
  const Waiter& waiter_;
  std::shared_ptr<Events> events_;
  std::shared_ptr<const Mark> base_;  // later marks are so far behind it
  double base_made_ = 0;              // steady_seconds
};

}  // namespace plsc
