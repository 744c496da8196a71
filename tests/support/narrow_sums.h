// What an all-reduce in bf16 must give, to the bit: each rank's value rounded once, summed in fp32 in rank order, and
// rounded again. Values are such that rounding shows, and that other orders give other sums.
#pragma once
#include <cmath>
#include <cstdint>

#include "kernels/math/bf16.h"
#include "kernels/math/rng.h"

namespace plsc::test {

/// What rank r holds at element i: of either sign, and of sizes from 2^-21 to 2^18.
inline float narrow_sample(int64_t r, int64_t i) {
  const auto bits = math::philox(7, static_cast<uint64_t>(i), static_cast<uint64_t>(r)).x[0];
  return (math::to_unit_float(bits) - 0.5F) * std::ldexp(1.0F, static_cast<int>(i % 40) - 20);
}

/// In a world of one rank nothing is rounded.
inline float narrow_sum(int64_t ranks, int64_t i) {
  if (ranks == 1) return narrow_sample(0, i);
  const auto rounded = [](float x) { return math::bf16_to_float(math::float_to_bf16(x)); };
  float sum = rounded(narrow_sample(0, i));
  for (int64_t r = 1; r < ranks; ++r) sum += rounded(narrow_sample(r, i));
  return rounded(sum);
}

}  // namespace plsc::test
