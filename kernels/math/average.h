// The running average of weights: average += (1 - d) (weight - average), where d rises from .1 to its limit, so that
// the first weights, which are far from any good ones, are soon forgotten. The rise is that of TensorFlow's
// ExponentialMovingAverage with a number of updates.
#pragma once
#include <cstdint>

#include "kernels/math/host_device.h"

namespace plsc::math {

struct AverageRule {
  double decay = 0;
  int64_t every = 1;  // updates
};

/// 1 - d of update number n = 1, 2, ... of the run, with t = n / every - 1 turns before it: d = min(decay, (1 + t) /
/// (10
/// + t)).
/// 0 where it is not its turn: the average stays.
PLSC_HD inline float average_rest(const AverageRule& rule, int64_t update) {
  if (update % rule.every != 0) return 0;
  const auto before = static_cast<double>(update / rule.every - 1);
  const double rising = (1 + before) / (10 + before);
  return static_cast<float>(1 - (rule.decay < rising ? rule.decay : rising));
}

PLSC_HD inline void average_in(float rest, float value, float& average) { average += rest * (value - average); }

}  // namespace plsc::math
