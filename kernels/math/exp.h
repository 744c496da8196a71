// e^x in fp32 as arithmetic alone, so that a loop over it vectorises and devices differ by no more than their fused
// multiply-adds. The text relies on its order of operations: compile it without re-association
// (kernels/CMakeLists.txt).
#pragma once
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/math/host_device.h"

namespace plsc::math {

PLSC_HD inline float float_from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// Relative error below 2e-7. Above 88.7228 infinity, below -87.3365 (where results would be denormal) zero, NaN stays.
PLSC_HD inline float exp_float(float x) {
  // x = n ln 2 + r with |r| <= ln 2 / 2; the sum with 1.5 * 2^23 rounds to an integer. ln 2 in two parts: the first has
  // few enough bits that n times it is exact.
  const float shifter = 12582912.0f;
  const float shifted = x * 1.44269504088896341f + shifter;
  const float n = shifted - shifter;
  const float r = (x - n * 0.693359375f) - n * -2.12194440054690583e-4f;
  // The Taylor series: its first omitted term is r^8 / 8!, at most 5e-9.
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // 2^n in two factors: 2^128 alone would be infinite already. The low bits of `shifted` are n.
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  const int32_t exponent = static_cast<int32_t>(bits - 0x4B400000u);
  const int32_t half = exponent >> 1;
  const float scale_1 = float_from_bits(static_cast<uint32_t>(half + 127) << 23);
  const float scale_2 = float_from_bits(static_cast<uint32_t>(exponent - half + 127) << 23);
  float result = (p * scale_1) * scale_2;
  result = x > 88.72283f ? std::numeric_limits<float>::infinity() : result;
  result = x < -87.33654f ? 0.0f : result;
  return x != x ? x : result;
}

}  // namespace plsc::math
