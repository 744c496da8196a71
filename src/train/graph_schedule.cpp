#include "train/graph_schedule.h"

#include <algorithm>
#include <cmath>

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

GraphSchedule::GraphSchedule(const RebuildConfig& config, int64_t warmup_steps, int64_t steps_per_epoch)
    : first_(warmup_steps > 0 ? warmup_steps : steps_per_epoch),
      build_every_(config.every_epochs.value_or(0) > 0 ? steps_of(*config.every_epochs, steps_per_epoch) : 0),
      probe_every_(config.probe_recall ? steps_of(1 / kProbesOfEpoch, steps_per_epoch) : 0) {
  PLSC_CHECK(steps_per_epoch > 0 && warmup_steps >= 0);
}

GraphAction GraphSchedule::at(int64_t done, bool built) const {
  const int64_t since = done - first_;
  if (since < 0) return GraphAction::none;
  const auto falls_on = [&](int64_t every) { return every > 0 && since % every == 0; };
  if (!built || falls_on(build_every_)) return GraphAction::build;
  return falls_on(probe_every_) ? GraphAction::probe : GraphAction::none;
}

}  // namespace plsc
