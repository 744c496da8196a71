// Sums that do not depend on their order: every term is rounded to a multiple of one quantum first, and sums of such
// multiples are exact in double while they stay below 2^53 quanta. (Pre-rounding: Demmel and Nguyen, "Fast reproducible
// floating-point summation", 2013, with one fixed bin.)
#pragma once

#include "kernels/math/host_device.h"

namespace plsc::math {

/// 2^-44: far below what a gradient of 1e-6 holds in fp32, and sums are exact up to 512. A larger one is only as
/// repeatable as a plain sum in double.
inline constexpr double kQuantum = 1.0 / 17592186044416.0;

/// `term`, of a size below 128, to the nearest multiple of the quantum: this much added, its last bit is worth one.
PLSC_HD inline double to_quanta(double term) {
  constexpr double kShift = 384;
  return (term + kShift) - kShift;
}

}  // namespace plsc::math
