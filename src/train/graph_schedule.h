// When the class graph of head.sampling.method knn is built and probed: a function of the number of steps that are
// done, so that a run that goes on from a checkpoint does it at the same steps.
#pragma once
#include <cstdint>

#include "config/config.h"

namespace plsc {

enum class GraphAction { none, build, probe };

/// The first graph is built when the warm-up is over, or after the first epoch where there is none. From there on:
///   builds  every rebuild.every_epochs; without a graph (a checkpoint had none that could be used) after each epoch
///   probes  four times an epoch with rebuild.probe_recall; without a graph it is built there
/// Epochs are rounded to whole steps, of which there is at least one.
class GraphSchedule {
 public:
  GraphSchedule(const RebuildConfig& config, int64_t warmup_steps, int64_t steps_per_epoch);

  /// What is to be done when `done` steps are; `built`: there is a graph.
  GraphAction at(int64_t done, bool built) const;
  int64_t first() const { return first_; }
  /// The first step from `done` on after which a run without a graph builds one.
  int64_t next_first(int64_t done) const;

  /// Steps between two builds and two probes; 0: none.
  int64_t build_every() const { return build_every_; }
  int64_t probe_every() const { return probe_every_; }

 private:
  int64_t first_, epoch_, build_every_, probe_every_;
};

}  // namespace plsc
