// Which images of which epoch a step takes: the batch's size in every step, and all arithmetic between steps and
// epochs. A function of the configuration and of the data's size alone: nothing to store, nothing to restore, the same
// on every rank.
#pragma once
#include <cstdint>
#include <vector>

#include "config/config.h"

namespace plsc {

/// The images of one step: positions [first, first + batch) of its epoch's order.
struct StepImages {
  int64_t epoch = 0, first = 0, batch = 0;
  int64_t passes = 1;  // micro-batches that it is cut into

  bool operator==(const StepImages&) const = default;
};

/// An epoch is one order of all N images; its steps take them from the first on, as long as a whole batch is left. What
/// is left over is dropped.
///
/// The batch is B images in A passes (train.batch_size, train.accumulate); where it grows (train.grow), it grows along
/// the cosine of FCCS (Song et al., "Large-Scale Training System for 100-Million Classification at Alibaba", KDD 2020)
/// by whole passes of B / A images:
///   passes = ceil(A + (F A - A) / 2 (1 - cos(pi p))),  p = (t - from) / (until - from), kept within [0, 1]
/// with F the factor, and t = epoch + first / N the images seen at the step's beginning, in epochs. So the first step
/// of epoch `from` is still of B images, and from the first one of epoch `until` on all are of F B.
class StepMap {
 public:
  struct Sizes {
    int64_t samples = 0;  // N
    int64_t batch = 0;    // B
    int64_t passes = 1;   // A
    GrowConfig grow;
  };
  /// The largest batch must not exceed the samples, and where it grows A must divide B.
  explicit StepMap(const Sizes& sizes);

  StepImages at(int64_t step) const;
  /// Images that the first `steps` steps take; the largest int64_t where they are more.
  int64_t images(int64_t steps) const;
  /// Epochs that are done after `steps` steps; within one by the part of the images that its steps take.
  double epochs(int64_t steps) const;
  /// The number of steps after which nearly so many epochs are done: half a step at most is between.
  int64_t steps(double epochs) const;
  int64_t first_step(int64_t epoch) const;
  int64_t steps_in(int64_t epoch) const { return first_step(epoch + 1) - first_step(epoch); }
  /// Steps as they would be counted if all were as large as the first, for what comes every so many of them: `steps`
  /// itself where the batch does not grow.
  int64_t even_steps(int64_t steps) const;
  int64_t even_steps_of_epoch() const { return even_steps_of_epoch_; }

  bool grows() const { return runs_.size() > 1; }
  int64_t largest_batch() const { return runs_.back().batch; }
  int64_t largest_passes() const { return runs_.back().passes; }

 private:
  /// Consecutive steps of one size: of whole epochs, or within one.
  struct Run {
    int64_t first_step = 0, epoch = 0, position = 0;
    int64_t images = 0;  // that the steps before took
    int64_t batch = 0, passes = 1;
    int64_t period = 0;  // steps of an epoch, or of the part of one that this is
  };
  const Run& run_of(int64_t step) const;
  /// In an epoch; all at once where it has one size.
  void add_epoch(const Sizes& sizes, int64_t epoch);
  /// Images that the steps of an epoch take.
  int64_t used_in(int64_t epoch) const { return images(first_step(epoch + 1)) - images(first_step(epoch)); }
  void add(int64_t epoch, int64_t position, int64_t batch, int64_t passes, int64_t period);

  std::vector<Run> runs_;
  int64_t even_steps_of_epoch_ = 1;  // steps of an epoch whose steps are all of B images
};

/// How many times as large as the first the batch becomes: 1 where it does not grow.
inline int64_t growth(const TrainConfig& train) { return train.grow.factor > 0 ? train.grow.factor : 1; }

/// Of a run on so many samples in batches of so many images over all ranks.
inline StepMap step_map(const TrainConfig& train, int64_t samples, int64_t global_batch) {
  return StepMap({samples, global_batch, train.accumulate, train.grow});
}

/// What the largest steps are those of: the configuration with their batch and their passes from the start.
TrainConfig with_largest_batch(const TrainConfig& train);

}  // namespace plsc
