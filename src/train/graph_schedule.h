// When the class graph of head.sampling.method knn is built and probed: a function of the number of steps that are
// done, so that a run that goes on from a checkpoint does it at the same steps.
#pragma once
#include <cstdint>

#include "config/config.h"

namespace plsc {

enum class GraphAction { none, build, probe };

/// The first graph is built when the warm-up is over, or after the first epoch where there is none. From there on:
///   builds  every rebuild.every_epochs; at once where there is no graph (a run goes on from a checkpoint that has none
///           that it can use)
///   probes  four times an epoch with rebuild.probe_recall
/// Epochs are rounded to whole steps, of which there is at least one.
class GraphSchedule {
 public:
  GraphSchedule(const RebuildConfig& config, int64_t warmup_steps, int64_t steps_per_epoch);

  /// What is to be done when `done` steps are; `built`: there is a graph.
  GraphAction at(int64_t done, bool built) const;
  int64_t first() const { return first_; }

  /// Steps between two builds and two probes; 0: none.
  int64_t build_every() const { return build_every_; }
  int64_t probe_every() const { return probe_every_; }

 private:
  int64_t first_, build_every_, probe_every_;
};

}  // namespace plsc
