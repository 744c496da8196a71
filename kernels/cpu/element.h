// Element types that kernels read and write: fp32, and bf16 as its 16 bits. Arithmetic is always fp32.
#pragma once
#include <cstdint>

#include "kernels/cpu/clones.h"
#include "kernels/math/bf16.h"

namespace plsc::kernels {

using Bf16 = uint16_t;

PLSC_INLINE float load(float value) { return value; }
PLSC_INLINE float load(Bf16 bits) { return math::bf16_to_float(bits); }
PLSC_INLINE void store(float value, float& to) { to = value; }
PLSC_INLINE void store(float value, Bf16& to) { to = math::float_to_bf16(value); }

}  // namespace plsc::kernels
