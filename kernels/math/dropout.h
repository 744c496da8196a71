// Dropout of one element.
#pragma once

#include "kernels/math/rng.h"

namespace plsc::math {

/// Element g of the global batch's flattened features takes lane g mod 4 of these bits.
PLSC_HD inline Random4 dropout_bits(uint64_t seed, uint64_t step, uint64_t g) {
  return random4(seed, Draw::dropout, step, g / 4);
}
/// 0 with probability p, else x times `scale` = 1 / (1 - p).
PLSC_HD_INLINE float dropped(float x, uint32_t bits, float p, float scale) {
  return to_unit_float(bits) < p ? 0.0f : x * scale;
}

}  // namespace plsc::math
