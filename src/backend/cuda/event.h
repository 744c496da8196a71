// Streams and events that end with their owner, and how the host waits for an event. No memory here.
#pragma once
#include <cuda_runtime_api.h>

#include <functional>
#include <utility>

#include "backend/device.h"

namespace plsc {

/// A stream that does not wait for the default stream. Work given to one runs in its order; between two, events order.
class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Whether the device is at an event; true for one that was never recorded. Error where something before it failed.
bool reached(cudaEvent_t event);

/// A point in a stream's order.
class Event {
 public:
  Event();
  ~Event();
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }

  /// The point behind all that `stream` was given so far.
  void record(cudaStream_t stream);
  bool done() const { return reached(event_); }
  /// What `stream` is given from now on comes after this point.
  void order(cudaStream_t stream) const;

 private:
  cudaEvent_t event_ = nullptr;
};

/// How the host waits for the device: it polls, so that whoever watches the other ranks can end the wait. A device that
/// waits for a rank that is gone would otherwise hang its host, too.
class Waiter {
 public:
  /// Without a hook it polls for ever, with pauses that grow to a fifth of a millisecond.
  void set_hook(HostWait hook) { hook_ = std::move(hook); }
  /// Returns once done() is true. Throws what done or the hook throws.
  void until(const std::function<bool()>& done) const;
  void wait(const Event& event) const;

 private:
  HostWait hook_;
};

}  // namespace plsc
