// The margin of a softmax on cosines: what becomes of the target's cosine, and its derivative. The formula stands here
// once, for every device. phi = m1 theta + m2 is continued beyond pi by k = floor(phi / pi), so that the logit stays
// monotone in theta (the idea of SphereFace, Liu et al., CVPR 2017, for any three margins).
#pragma once
#include <cmath>

#include "kernels/math/host_device.h"

namespace plsc::math {

struct MarginRule {
  double m1 = 1, m2 = 0, m3 = 0;  // m1 >= 1, m2 >= 0, m3 >= 0
  /// arcface_torch's form: cos phi without the continuation, and a derivative of one.
  bool straight_through = false;
  double limit = 1;  // of a cosine; infinity, without a margin, for products that are none: the linear head's
};

struct MarginValue {
  double f;   // the target's logit is scale * f
  double df;  // df / dcos
};

/// f = (-1)^k cos phi - 2k - m3, df = (-1)^k m1 sin phi / max(sin theta, 1e-3). A cosine outside [-1, 1] (the
/// rule's limit) is clamped and has a derivative of zero, as torch.clamp gives; at exactly -1 and 1 the derivative
/// passes. NaN stays NaN.
PLSC_HD inline MarginValue margin(const MarginRule& rule, double cosine) {
  const bool inside = !(cosine > rule.limit) && !(cosine < -rule.limit);
  const double c = cosine > rule.limit ? rule.limit : (cosine < -rule.limit ? -rule.limit : cosine);
  const double pass = inside ? 1.0 : 0.0;
  if (rule.m1 == 1.0 && rule.m2 == 0.0) return {c - rule.m3, pass};
  const double pi = 3.14159265358979323846;
  const double theta = std::acos(c);
  const double phi = rule.m1 * theta + rule.m2;
  if (rule.straight_through) return {std::cos(phi) - rule.m3, pass};
  const double k = std::floor(phi / pi);
  const double sign = std::fmod(k, 2.0) == 0.0 ? 1.0 : -1.0;
  const double sine = std::sin(theta);
  const double guarded = sine > 1e-3 ? sine : 1e-3;
  return {sign * std::cos(phi) - 2.0 * k - rule.m3, pass * sign * rule.m1 * std::sin(phi) / guarded};
}

/// ln(1 + e^a) without overflow, and with full relative accuracy where a is far below zero.
PLSC_HD inline double softplus(double a) { return a > 0 ? a + std::log1p(std::exp(-a)) : std::log1p(std::exp(a)); }
/// 1 / (1 + e^-a).
PLSC_HD inline double sigmoid(double a) {
  if (a >= 0) return 1.0 / (1.0 + std::exp(-a));
  const double e = std::exp(a);
  return e / (1.0 + e);
}

}  // namespace plsc::math
