// Normally distributed numbers from random bits, by the method of Box and Muller (1958). Logarithm, sine and cosine are
// arithmetic alone, so that a loop over them vectorises: the centres of ten million classes are five billion numbers.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/math/rng.h"

namespace plsc::math {

PLSC_HD inline double double_from_bits(uint64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// A whole number below 2^32, exactly: it is put behind the leading one of 2^52.
PLSC_HD inline double to_double(uint64_t whole) {
  return double_from_bits(0x4330000000000000ull | whole) - 4503599627370496.0;
}

/// Uniform in (0, 1), never 0 or 1, with 32 bits.
PLSC_HD inline double to_open_unit(uint32_t bits) { return (to_double(bits) + 0.5) * (1.0 / 4294967296.0); }

/// ln x of a normal, positive x; relative error below 5e-16.
PLSC_HD inline double log_positive(double x) {
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  // x = 2^n m with m in [1 / sqrt 2, sqrt 2): the mantissa's bits above those of sqrt 2 carry into the exponent.
  constexpr uint64_t kAboveRoot2 = 0x3FF0000000000000ull - 0x3FE6A09E667F3BCDull;
  const uint64_t carried = bits + kAboveRoot2;
  const double n = to_double(carried >> 52) - 1023.0;
  const double m = double_from_bits((carried & 0x000FFFFFFFFFFFFFull) + 0x3FE6A09E667F3BCDull);
  // ln m = 2 artanh f, f = (m - 1) / (m + 1), |f| < .1716: the first omitted term of the series is below 2e-17.
  const double f = (m - 1.0) / (m + 1.0), s = f * f;
  double p = 1.0 / 19.0;
  p = p * s + 1.0 / 17.0;
  p = p * s + 1.0 / 15.0;
  p = p * s + 1.0 / 13.0;
  p = p * s + 1.0 / 11.0;
  p = p * s + 1.0 / 9.0;
  p = p * s + 1.0 / 7.0;
  p = p * s + 1.0 / 5.0;
  p = p * s + 1.0 / 3.0;
  const double log_m = 2.0 * f + 2.0 * f * (s * p);
  // ln 2 in two parts: n times the first is exact.
  return n * 6.93147180369123816490e-01 + (n * 1.90821492927058770002e-10 + log_m);
}

/// Cosine and sine of 2 pi turns, turns in [0, 1]; absolute error below 3e-16.
struct CosSin {
  double cosine, sine;
};
PLSC_HD inline CosSin cos_sin_of_turns(double turns) {
  // The nearest quarter, which the sum with 1.5 * 2^52 rounds to, and what is left of it: both exact.
  const double shifter = 6755399441055744.0, shifted = 4.0 * turns + shifter;
  uint64_t quarter;
  std::memcpy(&quarter, &shifted, sizeof quarter);
  const double x = (4.0 * turns - (shifted - shifter)) * 1.57079632679489661923, s = x * x;
  // Taylor series on [-pi / 4, pi / 4]: the first omitted terms are below 5e-17.
  double p = -1.0 / 1307674368000.0;
  p = p * s + 1.0 / 6227020800.0;
  p = p * s - 1.0 / 39916800.0;
  p = p * s + 1.0 / 362880.0;
  p = p * s - 1.0 / 5040.0;
  p = p * s + 1.0 / 120.0;
  p = p * s - 1.0 / 6.0;
  const double sine = x + x * (s * p);
  double q = 1.0 / 20922789888000.0;
  q = q * s - 1.0 / 87178291200.0;
  q = q * s + 1.0 / 479001600.0;
  q = q * s - 1.0 / 3628800.0;
  q = q * s + 1.0 / 40320.0;
  q = q * s - 1.0 / 720.0;
  q = q * s + 1.0 / 24.0;
  const double cosine = 1.0 + s * (q * s - 0.5);
  const double along = (quarter & 1) != 0 ? sine : cosine, across = (quarter & 1) != 0 ? cosine : sine;
  return {((quarter + 1) & 2) != 0 ? -along : along, (quarter & 2) != 0 ? -across : across};
}

/// Four independent draws of N(0, 1). In double, so that the rounded fp32 values hardly ever depend on a device's fused
/// multiply-adds.
struct Normal4 {
  double x[4];
};
PLSC_HD inline Normal4 normal4(Random4 r) {
  Normal4 out;
  for (int pair = 0; pair < 2; ++pair) {
    const double radius = std::sqrt(-2.0 * log_positive(to_open_unit(r.x[2 * pair])));
    const CosSin angle = cos_sin_of_turns(to_open_unit(r.x[2 * pair + 1]));
    out.x[2 * pair] = radius * angle.cosine;
    out.x[2 * pair + 1] = radius * angle.sine;
  }
  return out;
}

}  // namespace plsc::math
