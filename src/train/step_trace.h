// What all ranks did in a few steps, and when, as a file for a trace viewer: Chrome's trace event format, which
// ui.perfetto.dev and chrome://tracing open.
#pragma once
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "runtime/context.h"
#include "runtime/timed_collective.h"

namespace plsc {

/// Makes the folder of log.trace's file and tries whether a file can be written there: Error on all ranks, which call
/// it together, before a run that would end without its trace.
void require_trace_file(Context& context, const LogConfig& config);

class StepTrace {
 public:
  /// Ranks in a trace: of more, as many with even distances.
  static constexpr int kMostRanks = 16;

  /// Steps [first_step + trace_first, + trace_steps) of `config` are traced. `context` outlives the
  /// trace.
  StepTrace(Context& context, const LogConfig& config, int64_t first_step);

  /// Warns where a run of `total_steps` ends before the first traced step.
  void announce(int64_t total_steps) const;
  /// From here on the rank is in this phase of this step. `name` is a literal; `micro_batch` counts from 0, and is
  /// below it where the phase is of the whole step.
  void phase(int64_t step, const char* name, int64_t micro_batch = -1);
  /// The collectives of a step whose end the device has passed.
  void add(int64_t step, const std::vector<CommSpan>& spans);
  /// Whether all that it wants is there, once this many steps are done.
  bool complete(int64_t steps_done) const { return !written_ && steps_done >= end_; }
  /// All ranks together; waits for the device; once. Rank 0 writes the file. A trace without a step is not written, nor
  /// a file that there is no room for: a warning.
  void write();

 private:
  struct Phase {
    int64_t step = 0;
    const char* name = "";
    int64_t micro_batch = -1;
    double host = 0;                         // steady_seconds
    std::shared_ptr<const TimeMark> device;  // null where that is the host
  };
  bool traces(int64_t step) const { return !written_ && step >= begin_ && step < end_; }
  bool takes_part() const;
  void measure_clock();
  std::string events() const;

  Context& context_;
  std::string path_;
  int64_t first_step_, begin_, end_;                         // steps; of the run, and of the trace
  double to_rank0_ = 0;                                      // seconds to add to this rank's clock for that of rank 0
  double uncertain_ = 0;                                     // by so much at most
  double origin_ = std::numeric_limits<double>::infinity();  // of the file, by rank 0's clock
  std::vector<Phase> phases_;
  std::vector<std::pair<int64_t, CommSpan>> spans_;  // with their steps
  bool closed_ = false;                              // the last phase has its end
  bool written_ = false;
};

}  // namespace plsc
