// When the class graph of head.sampling.method knn is built and probed: a function of the number of steps that are
// done, so that a run that goes on from a checkpoint does it at the same steps.
#pragma once
#include <cstdint>

#include "config/step_map.h"

namespace plsc {

enum class GraphAction { none, build, probe };

/// The first graph is built when the warm-up is over, or after the first epoch where there is none. From there on:
///   builds  every rebuild.every_epochs; at once where there is no graph (a run goes on from a checkpoint that has none
///           that it can use)
///   probes  four times an epoch with rebuild.probe_recall
/// Epochs are rounded to whole steps, of which there is at least one; where the batch grows, to steps as large as the
/// first, and what is due within a larger one comes after it.
class GraphSchedule {
 public:
  GraphSchedule(const RebuildConfig& config, int64_t warmup_steps, StepMap map);
  /// Where every epoch has as many steps.
  GraphSchedule(const RebuildConfig& config, int64_t warmup_steps, int64_t steps_per_epoch)
      : GraphSchedule(config, warmup_steps, StepMap({.samples = steps_per_epoch, .batch = 1, .grow = {}})) {}

  /// What is to be done when `done` steps are; `built`: there is a graph.
  GraphAction at(int64_t done, bool built) const;
  int64_t first() const { return first_; }

  /// Steps, as large as the first, between two builds and two probes; 0: none.
  int64_t build_every() const { return build_every_; }
  int64_t probe_every() const { return probe_every_; }
  bool grows() const { return map_.grows(); }

 private:
  /// Steps since the first graph was due, as large as the first.
  int64_t since_first(int64_t done) const { return map_.even_steps(done) - map_.even_steps(first_); }

  StepMap map_;
  int64_t first_, build_every_, probe_every_;
};

}  // namespace plsc
