#include "backend/cuda/device_clock.h"

#include <optional>

#include "backend/cuda/check.h"
#include "base/clock.h"

namespace plsc {
namespace {

// CUDA tells the time between two events as a float of milliseconds: over 10 s it is good to a microsecond.
constexpr double kBaseSeconds = 10;

/// An event that keeps the time.
class TimedEvent {
 public:
  TimedEvent() { check(cudaEventCreateWithFlags(&event_, cudaEventDefault), "cudaEventCreateWithFlags"); }
  ~TimedEvent() { cudaEventDestroy(event_); }
  TimedEvent(const TimedEvent&) = delete;
  TimedEvent& operator=(const TimedEvent&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

class DeviceClock::Mark final : public TimeMark {
 public:
  Mark(std::shared_ptr<const Mark> base, cudaStream_t stream) : base_(std::move(base)) {
    check(cudaEventRecord(event_.get(), stream), "cudaEventRecord");
  }
  double seconds() const override {
    if (!seconds_) {
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, base_->event_.get(), event_.get()), "cudaEventElapsedTime");
      seconds_ = base_->seconds() + 1e-3 * milliseconds;
      base_.reset();
    }
    return *seconds_;
  }
  /// Of the first one.
  void set_seconds(double seconds) { seconds_ = seconds; }
  cudaEvent_t event() const { return event_.get(); }

 private:
  TimedEvent event_;
  mutable std::shared_ptr<const Mark> base_;
  mutable std::optional<double> seconds_;
};

std::shared_ptr<const TimeMark> DeviceClock::mark() {
  if (base_ == nullptr) make_base();
  auto mark = std::make_shared<const Mark>(base_, stream_);
  if (const double now = steady_seconds(); now - base_made_ > kBaseSeconds) {
    base_ = mark;
    base_made_ = now;
  }
  return mark;
}

void DeviceClock::make_base() {
  auto base = std::make_shared<Mark>(nullptr, stream_);
  waiter_.until([&] {
    const cudaError_t status = cudaEventQuery(base->event());
    if (status == cudaErrorNotReady) {
      cudaGetLastError();  // no error, but it would be taken for one of a later call's
      return false;
    }
    check(status, "cudaEventQuery");
    return true;
  });
  base_made_ = steady_seconds();
  base->set_seconds(base_made_);
  base_ = std::move(base);
}

}  // namespace plsc
