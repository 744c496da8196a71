// fp32 to bf16 by chance: up with the probability of the part that is cut off, so that the expected value is the
// number itself. Small updates of bf16 weights then add up instead of being rounded away.
#pragma once

#include "kernels/math/bf16.h"
#include "kernels/math/rng.h"

namespace plsc::math {

/// Adding 16 random bits below the last kept one carries with just that probability. Infinities and NaN stay.
PLSC_HD inline uint16_t float_to_bf16_stochastic(float value, uint32_t random16) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7F800000u) == 0x7F800000u) return float_to_bf16(value);
  // A carry into the exponent is right; beyond the largest number it makes infinity, as rounding to nearest would.
  return static_cast<uint16_t>((bits + (random16 & 0xFFFFu)) >> 16);
}

/// Random bits for columns [8 group, 8 group + 8) of a class's row in one update: column c takes the lower (c even) or
/// upper (c odd) half of word (c mod 8) / 2. `what` is rounded: weights, or their momentum by draws of its own.
PLSC_HD inline Random4 rounding_bits(uint64_t seed, int64_t update, int64_t class_id, int64_t columns, int64_t group,
                                     Draw what = Draw::rounding) {
  const uint64_t groups = (static_cast<uint64_t>(columns) + 7) / 8;
  return random4(seed, what, static_cast<uint64_t>(update),
                 static_cast<uint64_t>(class_id) * groups + static_cast<uint64_t>(group));
}
PLSC_HD inline uint32_t rounding_bits_of(const Random4& bits, int64_t column) {
  const uint32_t word = bits.x[(column % 8) / 2];
  return column % 2 == 0 ? word & 0xFFFFu : word >> 16;
}

}  // namespace plsc::math
