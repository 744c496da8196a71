// The update of one element by Adam's moments with decoupled weight decay (Kingma and Ba, "Adam", 2015, algorithm 1;
// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2), in the order of torch.optim.AdamW
// without amsgrad. LAMB (trust.h) is the same with another rate for each tensor.
#pragma once
#include <cmath>
#include <cstdint>

#include "kernels/math/update_rule.h"

namespace plsc::math {

/// An UpdateRule with the numbers of one update. 1 - beta is taken in double: in fp32, 1 - .999f would be off by 5e-5.
struct AdamRule {
  float lr = 0, weight_decay = 0, gradient_scale = 1, epsilon = 0;
  float beta1 = 0, rest1 = 1;  // 1 - beta1
  float beta2 = 0, rest2 = 1;  // 1 - beta2
  float correction1 = 1;       // 1 - beta1^t
  float root_correction2 = 1;  // sqrt(1 - beta2^t)
};

/// base^n by multiplications in a fixed order: the same bits on the host and on a device, where pow may differ.
PLSC_HD inline double whole_power(double base, int64_t n) {
  double result = 1;
  for (; n > 0; n /= 2) {
    if (n % 2 == 1) result *= base;
    base *= base;
  }
  return result;
}

/// Of update t = 1, 2, ...: the first one of all that were made has 1, those that were skipped do not count.
PLSC_HD inline AdamRule adam_rule(const UpdateRule& r, int64_t t) {
  AdamRule a;
  a.lr = r.lr;
  a.weight_decay = r.weight_decay;
  a.gradient_scale = r.gradient_scale;
  a.epsilon = r.epsilon;
  a.beta1 = static_cast<float>(r.beta1);
  a.rest1 = static_cast<float>(1 - r.beta1);
  a.beta2 = static_cast<float>(r.beta2);
  a.rest2 = static_cast<float>(1 - r.beta2);
  a.correction1 = static_cast<float>(1 - whole_power(r.beta1, t));
  a.root_correction2 = static_cast<float>(std::sqrt(1 - whole_power(r.beta2, t)));
  return a;
}

/// m = beta1 m + (1 - beta1) gradient_scale g.
PLSC_HD inline void adam_mean(const AdamRule& r, float g, float& m) {
  m = r.beta1 * m + r.rest1 * (r.gradient_scale * g);
}

/// g' = gradient_scale g; m = beta1 m + (1 - beta1) g'; v = beta2 v + (1 - beta2) g'^2.
PLSC_HD inline void adam_moments(const AdamRule& r, float g, float& m, float& v) {
  const float scaled = r.gradient_scale * g;
  adam_mean(r, g, m);
  v = r.beta2 * v + r.rest2 * (scaled * scaled);
}

/// What is subtracted from w, times the rate: m^ / (sqrt(v^) + epsilon) + weight_decay w, where m^ and v^ are the
/// moments without their bias towards 0, the value that they began with.
PLSC_HD inline float adam_direction(const AdamRule& r, float w, float m, float v) {
  return (m / r.correction1) / (std::sqrt(v) / r.root_correction2 + r.epsilon) + r.weight_decay * w;
}

/// AdamW: one element's whole update.
PLSC_HD inline void adamw_update(const AdamRule& r, float g, float& w, float& m, float& v) {
  adam_moments(r, g, m, v);
  w -= r.lr * adam_direction(r, w, m, v);
}

}  // namespace plsc::math
