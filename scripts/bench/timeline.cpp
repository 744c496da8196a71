#include "scripts/bench/timeline.h"

#include <algorithm>

#include "base/clock.h"

namespace plsc {
namespace {

class HostTimeline final : public Timeline {
 public:
  void mark(const char* name) override { marks_.push_back({name, watch_.seconds()}); }
  std::vector<Mark> read() override {
    std::vector<Mark> out = std::move(marks_);
    marks_.clear();
    const double first = out.empty() ? 0 : out.front().seconds;
    for (Mark& m : out) m.seconds -= first;
    return out;
  }

 private:
  Stopwatch watch_;
  std::vector<Mark> marks_;
};

}  // namespace

std::unique_ptr<Timeline> make_timeline(Device& device) {
  if (device.kind() == DeviceKind::cuda) return make_cuda_timeline(device);
  return std::make_unique<HostTimeline>();
}

int64_t device_bytes_used(const Device& device) { return device.kind() == DeviceKind::cuda ? cuda_bytes_used() : 0; }

StepMarks split_steps(const std::vector<Timeline::Mark>& marks, const std::string& first) {
  StepMarks out;
  double begin = -1;
  for (size_t i = 0; i < marks.size(); ++i) {
    if (marks[i].name != first) continue;
    if (begin >= 0) out.seconds.push_back(marks[i].seconds - begin);
    begin = marks[i].seconds;
  }
  for (size_t i = 0; i + 1 < marks.size() && marks[i].seconds < begin; ++i) {
    out.phase_seconds[marks[i].name] +=
        (marks[i + 1].seconds - marks[i].seconds) / static_cast<double>(std::max<size_t>(out.seconds.size(), 1));
  }
  return out;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace plsc
