// The running average of the network's weights (train.ema): parameters and running statistics, each in Param::average.
// Evaluation may take it in place of the weights (eval.weights).
#pragma once
#include <span>
#include <vector>

#include "config/config.h"
#include "runtime/context.h"
#include "tensor/param.h"

namespace plsc {

class WeightAverage {
 public:
  explicit WeightAverage(const EmaConfig& config) : rule_{config.decay, config.every} {}

  /// An average that is not there yet (read from a checkpoint) begins as the weights are now.
  void begin(Context& context, std::span<Param* const> params) const;
  /// At the end of a step, behind all that it changes. Steps that are skipped do not count.
  void step(Context& context, std::span<Param* const> params) const;

 private:
  bool on() const { return rule_.decay > 0; }
  math::AverageRule rule_;
};

/// For as long as it lives, the averages stand in the places of the weights, and these in theirs. Nothing may be
/// trained or saved meanwhile.
class AveragedWeights {
 public:
  explicit AveragedWeights(std::vector<Param*> params);
  ~AveragedWeights();
  AveragedWeights(const AveragedWeights&) = delete;
  AveragedWeights& operator=(const AveragedWeights&) = delete;

 private:
  void swap();
  std::vector<Param*> params_;
};

}  // namespace plsc
