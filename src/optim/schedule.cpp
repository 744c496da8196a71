#include "optim/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace plsc {
namespace {

/// Of a run, where one_cycle rises and no warm-up is given.
constexpr double kRise = 0.3;
/// base_lr over the rate that one_cycle rises from.
constexpr double kRiseFactor = 25;

double ratio(int64_t part, int64_t whole) { return static_cast<double>(part) / static_cast<double>(whole); }

/// Half a cosine from `from` (p = 0) to `to` (p = 1).
double along_cosine(double from, double to, double p) {
  return to + (from - to) * 0.5 * (1.0 + std::cos(std::numbers::pi * p));
}

template <class Value, size_t N>
Value named(const std::array<std::pair<std::string_view, Value>, N>& table, const std::string& name, const char* key) {
  std::string all;
  for (const auto& [word, value] : table) {
    if (word == name) return value;
    all += (all.empty() ? "" : ", ") + std::string(word);
  }
  fail("{} is '{}'; known: {}", key, name, all);
}

}  // namespace

Schedule::Schedule(const ScheduleConfig& config, int64_t total_steps, const StepMap& map, int64_t accumulate)
    : base_(config.base_lr),
      final_(config.final_lr),
      power_(config.power),
      factor_(config.factor),
      warmup_steps_(config.warmup_epochs ? map.steps(*config.warmup_epochs) : config.warmup_steps),
      total_steps_(total_steps),
      accumulate_(accumulate),
      milestones_(config.milestone_steps) {
  kind_ = named(std::array<std::pair<std::string_view, Kind>, 5>{{{"poly", Kind::poly},
                                                                  {"step", Kind::step},
                                                                  {"cosine", Kind::cosine},
                                                                  {"constant", Kind::constant},
                                                                  {"one_cycle", Kind::one_cycle}}},
                config.name, "schedule.name");
  compat_ = named(std::array<std::pair<std::string_view, Compat>, 4>{{{"none", Compat::none},
                                                                      {"insightface_2022", Compat::insightface_2022},
                                                                      {"insightface_head", Compat::insightface_head},
                                                                      {"plsc", Compat::plsc}}},
                  config.compat, "schedule.compat");
  if (warmup_steps_ < 0) fail("schedule: a warm-up of {} steps", warmup_steps_);
  if (kind_ == Kind::one_cycle && warmup_steps_ == 0)
    warmup_steps_ = std::llround(kRise * static_cast<double>(total_steps));
  start_ = config.start_lr.value_or(kind_ == Kind::one_cycle ? base_ / kRiseFactor : 0);
  for (const double epochs : config.milestones) milestones_.push_back(map.steps(epochs));
  std::sort(milestones_.begin(), milestones_.end());
}

double Schedule::lr(int64_t step) const {
  PLSC_CHECK(step >= 0, "step {}", step);
  if (compat_ == Compat::insightface_2022 || compat_ == Compat::insightface_head) return insightface(step);
  if (kind_ == Kind::one_cycle) return one_cycle(step);
  return step < warmup_steps_ ? warm_up(step) : decay(step);
}

double Schedule::warm_up(int64_t step) const {
  const int64_t risen = compat_ == Compat::plsc ? step : step + 1;
  return start_ + (base_ - start_) * ratio(risen, warmup_steps_);
}

double Schedule::decay(int64_t step) const {
  const int64_t decay_steps = total_steps_ - warmup_steps_;
  // A run that is all warm-up has nothing left to decay.
  const double p = decay_steps <= 0 ? 1.0 : std::min(1.0, ratio(step - warmup_steps_, decay_steps));
  switch (kind_) {
    case Kind::poly:
      return final_ + (base_ - final_) * std::pow(1.0 - p, power_);
    case Kind::cosine:
      if (compat_ == Compat::plsc) return along_cosine(base_, final_, std::min(1.0, ratio(step, total_steps_)));
      return along_cosine(base_, final_, p);
    case Kind::step:
      return after_milestones(step);
    case Kind::constant:
    case Kind::one_cycle:
      return base_;
  }
  return base_;
}

double Schedule::after_milestones(int64_t step) const {
  const auto passed = std::upper_bound(milestones_.begin(), milestones_.end(), step) - milestones_.begin();
  return base_ * std::pow(factor_, static_cast<double>(passed));
}

double Schedule::one_cycle(int64_t step) const {
  const int64_t peak = std::max<int64_t>(warmup_steps_, 1) - 1;  // the update that has the base rate
  if (step < peak) return along_cosine(start_, base_, ratio(step, peak));
  const int64_t falls = total_steps_ - 1 - peak;
  if (falls <= 0) return step <= peak ? base_ : final_;
  return along_cosine(base_, final_, std::min(1.0, ratio(step - peak, falls)));
}

double Schedule::insightface(int64_t update) const {
  const bool counts_passes = compat_ == Compat::insightface_head;
  const int64_t passes = counts_passes ? accumulate_ : 1;
  const int64_t step = passes * (update + 1) - 1, warmup = passes * warmup_steps_, total = passes * total_steps_;
  if (counts_passes && step == 0) return base_;
  if (step <= warmup && warmup > 0) return base_ * ratio(step, warmup);
  if (step >= total) return 0;
  return base_ * std::pow(1.0 - ratio(step - warmup, total - warmup), power_);
}

}  // namespace plsc
