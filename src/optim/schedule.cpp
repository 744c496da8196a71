#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace plsc {
namespace {

int64_t to_steps(double epochs, int64_t steps_per_epoch) {
  return std::llround(epochs * static_cast<double>(steps_per_epoch));
}

}  // namespace

Schedule::Schedule(const ScheduleConfig& config, int64_t total_steps, int64_t steps_per_epoch)
    : base_(config.base_lr),
      final_(config.final_lr),
      power_(config.power),
      factor_(config.factor),
      warmup_steps_(config.warmup_epochs ? to_steps(*config.warmup_epochs, steps_per_epoch) : config.warmup_steps),
      total_steps_(total_steps),
      milestones_(config.milestone_steps) {
  if (config.name == "poly") {
    kind_ = Kind::poly;
  } else if (config.name == "step") {
    kind_ = Kind::step;
  } else if (config.name == "cosine") {
    kind_ = Kind::cosine;
  } else if (config.name == "constant") {
    kind_ = Kind::constant;
  } else {
    fail("schedule.name is '{}'; known: poly, step, cosine, constant", config.name);
  }
  if (warmup_steps_ < 0) fail("schedule: a warm-up of {} steps", warmup_steps_);
  for (const double epochs : config.milestones) milestones_.push_back(to_steps(epochs, steps_per_epoch));
  std::sort(milestones_.begin(), milestones_.end());
}

double Schedule::lr(int64_t step) const {
  PLSC_CHECK(step >= 0, "step {}", step);
  if (step < warmup_steps_) return base_ * static_cast<double>(step + 1) / static_cast<double>(warmup_steps_);
  const int64_t decay_steps = total_steps_ - warmup_steps_;
  // A run that is all warm-up has nothing left to decay.
  const double p = decay_steps <= 0
                       ? 1.0
                       : std::min(1.0, static_cast<double>(step - warmup_steps_) / static_cast<double>(decay_steps));
  switch (kind_) {
    case Kind::poly:
      return final_ + (base_ - final_) * std::pow(1.0 - p, power_);
    case Kind::cosine:
      return final_ + (base_ - final_) * 0.5 * (1.0 + std::cos(std::numbers::pi * p));
    case Kind::step: {
      const auto passed = std::upper_bound(milestones_.begin(), milestones_.end(), step) - milestones_.begin();
      return base_ * std::pow(factor_, static_cast<double>(passed));
    }
    case Kind::constant:
      return base_;
  }
  return base_;
}

}  // namespace plsc
