// Batch norm of one element, with the activation behind it, and the moments of its channel.
#pragma once
#include <cmath>

#include "kernels/math/host_device.h"

namespace plsc::math {

/// Mean and sum of squared deviations of n values from their sum and their sum of squares. In double, which has 29 bits
/// more than an fp32 value, nothing is lost while the mean is below some 10,000 standard deviations.
struct Moments {
  double mean = 0, m2 = 0;
};
PLSC_HD inline Moments moments_of(double n, double sum, double squares) {
  const double mean = sum / n, m2 = squares - sum * mean;
  return {mean, m2 > 0 ? m2 : 0};
}
PLSC_HD inline float reciprocal_deviation(double variance, float eps) {
  return static_cast<float>(1.0 / std::sqrt(variance + static_cast<double>(eps)));
}

/// z = (x - mean) scale + beta, scale = gamma rstd.
PLSC_HD_INLINE float normalized(float x, float mean, float scale, float beta) { return (x - mean) * scale + beta; }

/// NaN stays NaN.
PLSC_HD_INLINE float relu(float z) { return z <= 0.0f ? 0.0f : z; }
PLSC_HD_INLINE float prelu(float z, float slope) { return z <= 0.0f ? slope * z : z; }
/// dz from dy; a ReLU's output serves in place of z.
PLSC_HD_INLINE float relu_gradient(float z, float dy) { return z <= 0.0f ? 0.0f : dy; }
PLSC_HD_INLINE float prelu_gradient(float z, float slope, float dy) {
  const float below = slope * dy;
  return z <= 0.0f ? below : dy;
}
/// What an element adds to the gradient of its slope.
PLSC_HD_INLINE float prelu_slope_gradient(float z, float dy) {
  const float below = z * dy;
  return z <= 0.0f ? below : 0.0f;
}

/// dx, with the means over the batch of dz and, times rstd^2, of dz (x - mean).
struct NormMeans {
  float dz = 0, slope = 0;
};
PLSC_HD_INLINE float norm_gradient(float x, float mean, float scale, float dz, NormMeans means) {
  const float centred = x - mean;
  return scale * (dz - means.dz - centred * means.slope);
}

}  // namespace plsc::math
