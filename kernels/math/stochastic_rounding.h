// fp32 to bf16 by chance: up with the probability of the part that is cut off, so that the expected value is the
// number itself. Small updates of bf16 weights then add up instead of being rounded away.
#pragma once

#include "kernels/math/bf16.h"
#include "kernels/math/rng.h"

namespace plsc::math {

/// Adding 16 random bits below the last kept one carries with just that probability; the upper half of
/// what comes out is the result. Infinities and NaN stay. For loops over 32-bit elements alone.
PLSC_HD inline uint32_t add_below_bf16(float value, uint32_t random16) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t magnitude = bits & 0x7FFFFFFFu, infinity = 0x7F800000u;
  // A carry into the exponent is right; beyond the largest number it makes infinity, as rounding to nearest would.
  const uint32_t added = bits + (magnitude < infinity ? random16 : 0u);
  return magnitude > infinity ? added | 0x400000u : added;
}
PLSC_HD inline uint16_t float_to_bf16_stochastic(float value, uint32_t random16) {
  return static_cast<uint16_t>(add_below_bf16(value, random16 & 0xFFFFu) >> 16);
}

/// What one row's bits of one update are made from.
struct RowRandom {
  uint32_t start = 0, key = 0;
};
/// `what` is rounded: weights, or their momentum by draws of its own.
PLSC_HD inline RowRandom row_random(uint64_t seed, int64_t update, int64_t class_id, Draw what = Draw::rounding) {
  const Random4 draw = random4(seed, what, static_cast<uint64_t>(update), static_cast<uint64_t>(class_id));
  return {draw.x[0], draw.x[1]};
}

/// 32 bits for each place in a row: a counter through two multiplications and three shifts (the constants are those of
/// C. Wellons's search for hashes of 32 bits with little bias, "lowbias32"), with the row's key in between, so that two
/// rows' bits are not the same ones shifted. Philox itself, ten rounds for each eight columns, took a quarter of the
/// time of a step of the head in bf16.
PLSC_HD inline uint32_t rounding_word(const RowRandom& row, uint32_t place) {
  uint32_t x = row.start + place * 0x9E3779B9u;
  x = (x ^ (x >> 16)) * 0x7FEB352Du;
  x = ((x ^ (x >> 15)) + row.key) * 0x846CA68Bu;
  return x ^ (x >> 16);
}

/// Of each 32 columns the first sixteen take the lower halves of sixteen words, the others their upper halves: a vector
/// of words serves two vectors of columns.
constexpr int64_t kRoundedTogether = 32;
PLSC_HD inline uint32_t rounding_bits(const RowRandom& row, int64_t column) {
  const int64_t half = kRoundedTogether / 2;
  const auto place = static_cast<uint32_t>(column / kRoundedTogether * half + column % half);
  const uint32_t word = rounding_word(row, place);
  return column % kRoundedTogether < half ? word & 0xFFFFu : word >> 16;
}

}  // namespace plsc::math
