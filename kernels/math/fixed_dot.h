// A dot product whose bits do not depend on who takes it: 32 partial sums, of every 32nd column each, by fused
// multiply-adds; then halves are added to halves. A vector unit and a warp both do it in this order at full speed.
#pragma once
#include <cmath>

#include "kernels/math/host_device.h"

namespace plsc::math {

/// Partial sum l takes the columns d with d % kDotLanes == l; they meet as l with l + 16, + 8, + 4, + 2, + 1.
inline constexpr int kDotLanes = 32;

PLSC_HD_INLINE float add_product(float sum, float a, float b) { return fmaf(a, b, sum); }

}  // namespace plsc::math
