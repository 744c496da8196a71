// The learning rate of every update, as a pure function of its number: nothing to store, nothing to restore.
#pragma once
#include <cstdint>
#include <vector>

#include "config/config.h"

namespace plsc {

/// With w warm-up steps, T steps in all, and t = 0, 1, ... the number of the update:
///   t < w:  base (t + 1) / w
///   t >= w: with p = (t - w) / (T - w), the part of the decay that is behind (0 at its first update, < 1 at the last)
///     poly      final + (base - final) (1 - p)^power
///     cosine    final + (base - final) (1 + cos(pi p)) / 2
///     step      base factor^(number of milestones <= t)
///     constant  base
/// Milestones and warm-ups in epochs are round(epochs * steps_per_epoch) steps from the start of the run.
/// From t = T on, the rate stays at p = 1.
class Schedule {
 public:
  /// A warm-up that is longer than the run is cut off by its end: short trials of a recipe need no other schedule.
  Schedule(const ScheduleConfig& config, int64_t total_steps, int64_t steps_per_epoch);

  double lr(int64_t step) const;
  int64_t warmup_steps() const { return warmup_steps_; }
  int64_t total_steps() const { return total_steps_; }

 private:
  enum class Kind { poly, step, cosine, constant };

  Kind kind_ = Kind::poly;
  double base_ = 0, final_ = 0, power_ = 1, factor_ = 1;
  int64_t warmup_steps_ = 0, total_steps_ = 0;
  std::vector<int64_t> milestones_;  // in steps, ascending
};

}  // namespace plsc
