// Keeps the class graph of head.sampling.method knn up to date: builds and probes it where the schedule says so, and
// tells of it.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "config/config.h"
#include "head/margin_head.h"
#include "runtime/context.h"
#include "train/graph_schedule.h"
#include "train/recorder.h"

namespace plsc {

class GraphKeeper {
 public:
  /// `head` samples by a graph. References outlive the object. `interrupted`: see Interrupted.
  GraphKeeper(Context& context, const SamplingConfig& config, const GraphSchedule& schedule, MarginHead& head,
              Interrupted interrupted);

  /// Tells what the graph is, when it is built and what it takes of memory, and where it stands at a run's start.
  void announce(int64_t first_step, int64_t total_steps) const;
  /// Whether the graph is to be built or probed now that `done` steps are done and the next is not prepared, and has
  /// not been yet. The same on every rank.
  bool due(int64_t done) const;
  /// Does what is due, unless it is interrupted: then all is as it was, and it is due when the run goes on from here.
  /// All ranks call it.
  void run(int64_t done, Recorder& recorder);
  /// Steps since the graph was built; nothing without one.
  std::optional<int64_t> age(int64_t done) const;

 private:
  /// Whether the graph holds less than it must; nothing where it was interrupted.
  std::optional<bool> probe_fails(int64_t done, Recorder& recorder);
  void build(int64_t done, Recorder& recorder);
  std::string state(int64_t first_step, int64_t total_steps) const;

  Context& context_;
  const SamplingConfig& config_;
  GraphSchedule schedule_;
  MarginHead& head_;
  Interrupted interrupted_;
};

}  // namespace plsc
