// Rows divided by their length, as torch.nn.functional.normalize does, and the gradient behind it.
#pragma once

#include "kernels/math/host_device.h"

namespace plsc::math {

/// A row is divided by max(its length, kNormFloor).
inline constexpr float kNormFloor = 1e-12f;

PLSC_HD_INLINE float inverse_norm(float norm) { return 1.0f / (norm < kNormFloor ? kNormFloor : norm); }

/// With w^ = w / |w| and u = d loss / dw^ / |w|, the gradient of w is u - along w, along = (u . w^) / |w|: what points
/// along w is taken out. A row below the floor was divided by a constant, so that nothing is taken out.
PLSC_HD_INLINE float along_row(float u_dot_w, float inverse_norm) {
  const bool below_floor = !(inverse_norm < 1.0f / kNormFloor);
  return below_floor ? 0.0f : u_dot_w * inverse_norm * inverse_norm;
}
PLSC_HD_INLINE float row_gradient(float u, float along, float w) { return u - along * w; }

/// The same from y = x / |x|: dx = (dy - along y) / |x|, along = dy . y.
PLSC_HD_INLINE float along_unit_row(float dy_dot_y, float norm) { return norm < kNormFloor ? 0.0f : dy_dot_y; }
PLSC_HD_INLINE float unit_row_gradient(float dy, float along, float y, float inverse_norm) {
  return (dy - along * y) * inverse_norm;
}

}  // namespace plsc::math
