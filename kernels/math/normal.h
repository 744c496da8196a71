// Normally distributed numbers from random bits, by the method of Box and Muller (1958).
#pragma once
#include <cmath>

#include "kernels/math/rng.h"

namespace plsc::math {

/// Uniform in (0, 1), never 0 or 1, with 32 bits.
PLSC_HD inline double to_open_unit(uint32_t bits) { return (static_cast<double>(bits) + 0.5) * (1.0 / 4294967296.0); }

/// Four independent draws of N(0, 1). In double, so that the rounded fp32 values do not depend on the library's
/// last bit.
struct Normal4 {
  double x[4];
};
PLSC_HD inline Normal4 normal4(Random4 r) {
  constexpr double kTwoPi = 6.283185307179586476925;
  Normal4 out;
  for (int pair = 0; pair < 2; ++pair) {
    const double radius = std::sqrt(-2.0 * std::log(to_open_unit(r.x[2 * pair])));
    const double angle = kTwoPi * to_open_unit(r.x[2 * pair + 1]);
    out.x[2 * pair] = radius * std::cos(angle);
    out.x[2 * pair + 1] = radius * std::sin(angle);
  }
  return out;
}

}  // namespace plsc::math
