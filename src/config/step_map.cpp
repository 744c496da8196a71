#include "config/step_map.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/error.h"

namespace plsc {
namespace {

double part(int64_t a, int64_t b) { return static_cast<double>(a) / static_cast<double>(b); }

/// Passes of a step at the beginning of which `t` epochs have been seen.
int64_t passes_at(const StepMap::Sizes& sizes, double t) {
  const GrowConfig& grow = sizes.grow;
  const double p = std::clamp((t - grow.from_epoch) / (grow.until_epoch - grow.from_epoch), 0.0, 1.0);
  const auto least = static_cast<double>(sizes.passes), most = least * static_cast<double>(grow.factor);
  const double batch = least + (most - least) / 2 * (1 - std::cos(std::numbers::pi * p));
  // What rounding adds to a whole number of passes makes no other one of it, whatever the cosine's last bit.
  constexpr double kRounding = 1e-9;
  return static_cast<int64_t>(std::ceil(batch * (1 - kRounding)));
}

}  // namespace

StepMap::StepMap(const Sizes& sizes) {
  const bool grows = sizes.grow.factor > 1;
  PLSC_CHECK(sizes.batch >= 1 && sizes.passes >= 1 && sizes.samples >= sizes.batch, "{} samples in batches of {}",
             sizes.samples, sizes.batch);
  even_steps_of_epoch_ = sizes.samples / sizes.batch;
  if (!grows) {
    add(0, 0, sizes.batch, sizes.passes, sizes.samples / sizes.batch);
    return;
  }
  const GrowConfig& grow = sizes.grow;
  const int64_t largest = sizes.batch * grow.factor;
  PLSC_CHECK(sizes.batch % sizes.passes == 0 && sizes.samples >= largest && grow.until_epoch > grow.from_epoch,
             "{} samples in batches of {} to {}, {} passes", sizes.samples, sizes.batch, largest, sizes.passes);
  const auto begin = static_cast<int64_t>(std::floor(grow.from_epoch));
  const auto end = static_cast<int64_t>(std::ceil(grow.until_epoch));
  if (begin > 0) add(0, 0, sizes.batch, sizes.passes, sizes.samples / sizes.batch);
  for (int64_t epoch = begin; epoch < end; ++epoch) add_epoch(sizes, epoch);
  add(end, 0, largest, sizes.passes * grow.factor, sizes.samples / largest);
}

void StepMap::add(int64_t epoch, int64_t position, int64_t batch, int64_t passes, int64_t period) {
  Run run{0, epoch, position, 0, batch, passes, period};
  if (!runs_.empty()) {
    const Run& before = runs_.back();
    const int64_t steps = before.period * (position == 0 ? std::max<int64_t>(1, epoch - before.epoch) : 1);
    run.first_step = before.first_step + steps;
    run.images = before.images + steps * before.batch;
  }
  runs_.push_back(run);
}

void StepMap::add_epoch(const Sizes& sizes, int64_t epoch) {
  const int64_t unit = sizes.batch / sizes.passes;
  for (int64_t position = 0;;) {
    const auto passes_from = [&](int64_t first) {
      return passes_at(sizes, static_cast<double>(epoch) + part(first, sizes.samples));
    };
    const int64_t passes = passes_from(position), batch = unit * passes;
    const int64_t whole = (sizes.samples - position) / batch;  // steps of this size that the epoch has left
    if (whole == 0) return;
    // The batch never shrinks: the first step that has more passes is found by halving.
    int64_t same = 1, more = whole;
    while (same < more) {
      const int64_t middle = same + (more - same) / 2;
      if (passes_from(position + middle * batch) > passes) {
        more = middle;
      } else {
        same = middle + 1;
      }
    }
    add(epoch, position, batch, passes, same);
    position += same * batch;
  }
}

const StepMap::Run& StepMap::run_of(int64_t step) const {
  PLSC_CHECK(step >= 0, "step {}", step);
  const auto behind = std::ranges::upper_bound(runs_, step, {}, &Run::first_step);
  return *std::prev(behind);
}

StepImages StepMap::at(int64_t step) const {
  const Run& run = run_of(step);
  const int64_t steps = step - run.first_step;
  return {run.epoch + steps / run.period, run.position + steps % run.period * run.batch, run.batch, run.passes};
}

int64_t StepMap::images(int64_t steps) const {
  const Run& run = run_of(steps);
  int64_t images = 0;
  if (__builtin_mul_overflow(steps - run.first_step, run.batch, &images) ||
      __builtin_add_overflow(run.images, images, &images))
    return std::numeric_limits<int64_t>::max();
  return images;
}

int64_t StepMap::first_step(int64_t epoch) const {
  PLSC_CHECK(epoch >= 0, "epoch {}", epoch);
  const Run* last = &runs_.front();
  // The last run that begins at an epoch's beginning, this one's or an earlier one's.
  const auto behind = std::ranges::upper_bound(runs_, epoch, {}, &Run::epoch);
  for (auto run = behind; run != runs_.begin();) {
    last = &*--run;
    if (last->position == 0) break;
  }
  return last->first_step + (epoch - last->epoch) * last->period;
}

double StepMap::epochs(int64_t steps) const {
  if (!grows()) return part(steps, runs_.front().period);
  const StepImages next = at(steps);
  return static_cast<double>(next.epoch) + part(next.first, used_in(next.epoch));
}

int64_t StepMap::steps(double epochs) const {
  PLSC_CHECK(epochs >= 0, "{} epochs", epochs);
  if (!grows()) return std::llround(epochs * static_cast<double>(runs_.front().period));
  if (const Run& last = runs_.back(); epochs >= static_cast<double>(last.epoch)) {
    constexpr double kNever = 1e18;  // steps
    const double steps = (epochs - static_cast<double>(last.epoch)) * static_cast<double>(last.period);
    return last.first_step + std::llround(std::min(kNever, steps));
  }
  const auto epoch = static_cast<int64_t>(std::floor(epochs));
  const double images = (epochs - std::floor(epochs)) * static_cast<double>(used_in(epoch));
  // The step within whose images it falls, and the nearer one of its ends.
  int64_t below = first_step(epoch), above = first_step(epoch + 1);
  const auto seen = [&, begin = this->images(below)](int64_t steps) {
    return static_cast<double>(this->images(steps) - begin);
  };
  while (above - below > 1) {
    const int64_t middle = below + (above - below) / 2;
    (seen(middle) <= images ? below : above) = middle;
  }
  return images - seen(below) < seen(above) - images ? below : above;
}

int64_t StepMap::even_steps(int64_t steps) const {
  if (!grows()) return steps;
  return std::llround(epochs(steps) * static_cast<double>(even_steps_of_epoch_));
}

TrainConfig with_largest_batch(const TrainConfig& train) {
  TrainConfig largest = train;
  largest.batch_size *= growth(train);
  largest.batch_per_rank *= growth(train);
  largest.accumulate *= growth(train);
  largest.grow = {};
  return largest;
}

}  // namespace plsc
