// When collectives were under way, and what a rank's work had to wait for them: for the metrics and the trace.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/device.h"
#include "comm/collective.h"

namespace plsc {

/// One collective. Times are TimeMark::seconds; on a GPU they are known once the device has passed them.
struct CommSpan {
  const char* kind = "";  // "all-reduce"
  std::string what;       // "gradient bucket 3"
  int64_t bytes = 0;      // of the tensor: the whole of what a gather or a scatter cuts into shares
  std::shared_ptr<const TimeMark> start_begin, start_end, wait_begin, wait_end;
  std::optional<double> ended;  // when it was complete, where that is known better than by its wait

  /// The time that the rank's work stood still for it: the host's, where that computes, else the device's, from the
  /// begins of its start and its wait to their ends. Waiting for a slower rank is in it.
  double exposed() const;
  /// From its start to its end.
  double begin() const { return start_begin->seconds(); }
  double end() const { return ended.value_or(wait_end->seconds()); }
};

/// The spans of all collectives of this rank that a training step consists of, in the order of their waits.
class CommTimes {
 public:
  /// Only what happens while it listens is a step's.
  void listen(bool on) { listens_ = on; }
  bool listens() const { return listens_; }
  void note(CommSpan span) { spans_.push_back(std::move(span)); }
  /// Those since the last call.
  std::vector<CommSpan> take() { return std::exchange(spans_, {}); }

 private:
  bool listens_ = false;
  std::vector<CommSpan> spans_;
};

/// Passes everything on to `inner` and notes it in `times`. All three outlive the object.
std::unique_ptr<Collective> make_timed_collective(Device& device, Collective& inner, CommTimes& times);

}  // namespace plsc
