// bfloat16 as 16 bits: the upper half of an fp32. Conversions written so that a loop over them vectorises.
#pragma once
#include <cstdint>
#include <cstring>

#include "kernels/math/host_device.h"

namespace plsc::math {

PLSC_HD inline float bf16_to_float(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

/// Round to nearest, ties to even; NaN stays NaN (quiet), overflow becomes infinity.
PLSC_HD inline uint16_t float_to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet_nan = (bits >> 16) | 0x40u;
  return static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet_nan : rounded);
}

}  // namespace plsc::math
