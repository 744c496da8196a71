// Sums that do not depend on their order: every term is rounded to a multiple of one quantum first, and sums of such
// multiples are exact in double while they stay below 2^53 quanta. (Pre-rounding: Demmel and Nguyen, "Fast reproducible
// floating-point summation", 2013, with a bin fixed beforehand.) What includes this must not be compiled with
// re-association, which would cancel the two additions.
#pragma once

#include "kernels/math/host_device.h"

namespace plsc::math {

/// Quanta of 2^-50 for gradients, sums of which are exact up to 8 (a single pixel's gradient may be 1e-10, a
/// parameter's is seldom above 1), and of 2^-32 for activations and their squares, up to 2 million. A larger sum is
/// only as repeatable as any in double.
enum class Quantum { gradient, activation };

/// `term` to the nearest multiple of the quantum: with this much added, its last bit is worth one.
template <Quantum kQuantum>
PLSC_HD_INLINE double to_quanta(double term) {
  constexpr double kShift = kQuantum == Quantum::gradient ? 6.0 : 1572864.0;
  return (term + kShift) - kShift;
}

}  // namespace plsc::math
