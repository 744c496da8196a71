// Running statistics of a batch norm: one channel's batches pooled into sums, and the sums folded into the averages.
#pragma once

#include "kernels/math/host_device.h"

namespace plsc::math {

/// Sums over batches around a shift that all of them share: n (mean - shift), M2 + n (mean - shift)^2.
struct PooledMoments {
  double first = 0, second = 0;
};

PLSC_HD inline PooledMoments pooled_moments(double n, double mean, double m2, float shift) {
  const double d = mean - static_cast<double>(shift);
  return {n * d, m2 + n * d * d};
}

/// The mean and the unbiased variance of n values from their pooled moments.
struct MeanVariance {
  float mean = 0, variance = 0;
};

PLSC_HD inline MeanVariance unpool(PooledMoments p, double n, float shift) {
  const double d = p.first / n;
  const double m2 = p.second - n * d * d;
  return {static_cast<float>(shift + d), static_cast<float>(m2 > 0 ? m2 / (n - 1.0) : 0.0)};
}

}  // namespace plsc::math
