// The loss that an untrained head should show: printed beside the first one seen, it tells a wrong wiring at once.
#pragma once
#include <cstdint>

#include "kernels/math/softmax_loss.h"

namespace plsc {

struct FirstLossArgs {
  math::LossRule rule;
  int64_t classes = 0;  // that take part in a step
  int64_t columns = 0;  // of an embedding
};

/// The expected loss where all cosines are independent normal numbers of variance 1 / columns. With many classes the
/// negatives' sum has the logarithm ln C + scale^2 / (2 D), and the target's cosine is next to 0; with fewer, or a
/// scale at which the largest cosine alone counts (the random energy model's frozen phase: Derrida, 1981), a few
/// thousand samples are drawn.
double expected_first_loss(const FirstLossArgs& args);

}  // namespace plsc
