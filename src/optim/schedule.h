// The learning rate of every update, as a pure function of its number: nothing to store, nothing to restore.
#pragma once
#include <cstdint>
#include <vector>

#include "config/step_map.h"

namespace plsc {

/// With w warm-up steps, T steps in all, and t = 0, 1, ... the number of the update:
///   t < w:  start + (base - start) (t + 1) / w
///   t >= w: with p = (t - w) / (T - w), the part of the decay that is behind (0 at its first update, < 1 at the last)
///     poly      final + (base - final) (1 - p)^power
///     cosine    final + (base - final) (1 + cos(pi p)) / 2
///     step      base factor^(number of milestones <= t)
///     constant  base
///   one_cycle, whose base is the rate of update w - 1, and whose last update has the final one (Smith, "Super-
///   convergence", 2018; the same rates as torch.optim.lr_scheduler.OneCycleLR with pct_start w / T, whose momentum
///   moves too):
///     t < w     start + (base - start) (1 - cos(pi t / (w - 1))) / 2
///     t >= w    final + (base - final) (1 + cos(pi (t - w + 1) / (T - w))) / 2
/// Milestones and warm-ups in epochs are the nearest steps to them (StepMap::steps). Where the batch grows, t and T
/// still count updates, of which an epoch has fewer and fewer. From t = T on, the rate stays at p = 1.
///
/// `compat` gives the rates of a peer's program instead, which differ at the warm-up's ends (`power` is 2 there, and 1
/// for insightface_head: load_config sees to it):
///
///   insightface_2022, what their published logs show:
///     base t / w for t <= w (base where w = 0), then base (1 - p)^power
///
///   insightface_head, arcface_torch at commit 7fadd420, whose schedule counts passes: the update behind pass n =
///   (t + 1) accumulate has, with m = n - 1 and W, N for w, T in passes,
///     base for m = 0, whatever the warm-up; base m / W for m <= W; then base (1 - (m - W) / (N - W))^power
///
///   plsc, PLSC 2.4 with decay_unit step:
///     start + (base - start) t / w for t < w; then poly with final 0; step as above; cosine (TimmCosine) is
///     final + (base - final) (1 + cos(pi t / T)) / 2
class Schedule {
 public:
  /// A warm-up that is longer than the run is cut off by its end: short trials of a recipe need no other schedule.
  /// `accumulate`: passes of an update, which count in compat insightface_head alone.
  Schedule(const ScheduleConfig& config, int64_t total_steps, const StepMap& map, int64_t accumulate = 1);
  /// Where every epoch has as many steps.
  Schedule(const ScheduleConfig& config, int64_t total_steps, int64_t steps_per_epoch, int64_t accumulate = 1)
      : Schedule(config, total_steps, StepMap({.samples = steps_per_epoch, .batch = 1, .grow = {}}), accumulate) {}

  double lr(int64_t step) const;
  int64_t warmup_steps() const { return warmup_steps_; }
  int64_t total_steps() const { return total_steps_; }

 private:
  enum class Kind { poly, step, cosine, constant, one_cycle };
  enum class Compat { none, insightface_2022, insightface_head, plsc };

  double warm_up(int64_t step) const;
  double decay(int64_t step) const;
  double one_cycle(int64_t step) const;
  double insightface(int64_t update) const;
  double after_milestones(int64_t step) const;

  Kind kind_ = Kind::poly;
  Compat compat_ = Compat::none;
  double base_ = 0, start_ = 0, final_ = 0, power_ = 1, factor_ = 1;
  int64_t warmup_steps_ = 0, total_steps_ = 0, accumulate_ = 1;
  std::vector<int64_t> milestones_;  // in steps, ascending
};

}  // namespace plsc
