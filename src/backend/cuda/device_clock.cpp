#include "backend/cuda/device_clock.h"

#include <optional>
#include <vector>

#include "backend/cuda/check.h"
#include "base/clock.h"

namespace plsc {
namespace {

// CUDA tells the time between two events as a float of milliseconds: over 10 s it is good to a microsecond.
constexpr double kBaseSeconds = 10;
constexpr int kSettings = 5;  // of the clock, of which the surest counts

}  // namespace

/// Events that keep the time, made once and used again: a step has hundreds of marks.
class DeviceClock::Events {
 public:
  Events() = default;
  ~Events() {
    for (const cudaEvent_t event : free_) cudaEventDestroy(event);
  }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;

  cudaEvent_t take() {
    if (free_.empty()) {
      cudaEvent_t event = nullptr;
      check(cudaEventCreateWithFlags(&event, cudaEventDefault), "cudaEventCreateWithFlags");
      return event;
    }
    const cudaEvent_t event = free_.back();
    free_.pop_back();
    return event;
  }
  void give_back(cudaEvent_t event) { free_.push_back(event); }

 private:
  std::vector<cudaEvent_t> free_;
};

class DeviceClock::Mark final : public TimeMark {
 public:
  Mark(std::shared_ptr<Events> events, std::shared_ptr<const Mark> base, cudaStream_t stream)
      : events_(std::move(events)), event_(events_->take()), base_(std::move(base)) {
    check(cudaEventRecord(event_, stream), "cudaEventRecord");
  }
  ~Mark() override { events_->give_back(event_); }
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;

  double seconds() const override {
    if (!seconds_) {
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, base_->event_, event_), "cudaEventElapsedTime");
      seconds_ = base_->seconds() + 1e-3 * milliseconds;
      base_.reset();
    }
    return *seconds_;
  }
  /// Of one that others are measured by.
  void set_seconds(double seconds) {
    seconds_ = seconds;
    base_.reset();
  }
  cudaEvent_t event() const { return event_; }

 private:
  std::shared_ptr<Events> events_;
  cudaEvent_t event_;
  mutable std::shared_ptr<const Mark> base_;
  mutable std::optional<double> seconds_;
};

DeviceClock::DeviceClock(cudaStream_t stream, const Waiter& waiter)
    : stream_(stream), waiter_(waiter), events_(std::make_shared<Events>()) {}

std::shared_ptr<DeviceClock::Mark> DeviceClock::record() const {
  return std::make_shared<Mark>(events_, base_, stream_);
}

std::shared_ptr<const TimeMark> DeviceClock::mark() {
  if (base_ == nullptr) set();
  auto mark = record();
  if (const double now = steady_seconds(); now - base_made_ > kBaseSeconds) {
    base_ = mark;
    base_made_ = now;
  }
  return mark;
}

// The idle device comes by an event at some time between its being given and its being seen: the middle of that.
void DeviceClock::set() {
  const auto before = record();
  waiter_.until([&] { return reached(before->event()); });
  double surest = 0;
  for (int i = 0; i < kSettings; ++i) {
    const double given = steady_seconds();
    auto mark = record();
    while (!reached(mark->event())) {
    }
    const double seen = steady_seconds();
    if (i > 0 && seen - given >= surest) continue;
    surest = seen - given;
    mark->set_seconds((given + seen) / 2);
    base_ = std::move(mark);
    base_made_ = seen;
  }
}

}  // namespace plsc
