#include "train/graph_schedule.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"

namespace plsc {
namespace {

constexpr double kProbesOfEpoch = 4;

/// At least one step.
int64_t steps_of(double epochs, int64_t steps_per_epoch) {
  constexpr double kNever = 1e18;  // steps
  return std::max<int64_t>(1, std::llround(std::min(kNever, epochs * static_cast<double>(steps_per_epoch))));
}

}  // namespace

GraphSchedule::GraphSchedule(const RebuildConfig& config, int64_t warmup_steps, StepMap map)
    : map_(std::move(map)),
      first_(warmup_steps > 0 ? warmup_steps : map_.first_step(1)),
      build_every_(config.every_epochs.value_or(0) > 0 ? steps_of(*config.every_epochs, map_.even_steps_of_epoch())
                                                       : 0),
      probe_every_(config.probe_recall ? steps_of(1 / kProbesOfEpoch, map_.even_steps_of_epoch()) : 0) {
  PLSC_CHECK(warmup_steps >= 0);
}

GraphAction GraphSchedule::at(int64_t done, bool built) const {
  if (done < first_) return GraphAction::none;
  const int64_t since = since_first(done), before = done > first_ ? since_first(done - 1) : -1;
  const auto falls_on = [&](int64_t every) { return every > 0 && (before < 0 || since / every > before / every); };
  if (!built || falls_on(build_every_)) return GraphAction::build;
  return falls_on(probe_every_) ? GraphAction::probe : GraphAction::none;
}

}  // namespace plsc
