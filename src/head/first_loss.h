// The loss that an untrained head should show: printed beside the first one seen, it tells a wrong wiring at once.
#pragma once
#include <cstdint>

#include "kernels/math/margin.h"

namespace plsc {

struct FirstLossArgs {
  math::MarginRule margin;
  double scale = 64;
  int64_t classes = 0;  // that take part in a step
  int64_t columns = 0;  // of an embedding
};

/// The expected loss where all cosines are independent normal numbers of variance 1 / columns. With many classes that
/// is the margin's cost + ln C + scale^2 / (2 D); with fewer, or a scale at which the largest cosine alone counts (the
/// random energy model's frozen phase: Derrida, 1981), a few thousand samples are drawn.
double expected_first_loss(const FirstLossArgs& args);

}  // namespace plsc
