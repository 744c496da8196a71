// Layer-wise rates: each tensor's rate is multiplied by a trust ratio of its norms. All norms are Euclidean, over the
// whole tensor, and taken in double.
//
// LARS: You, Gitman, Ginsburg, "Large Batch Training of Convolutional Networks", 2017, algorithm 1, with the
// coefficient of its equation 6. The rate is inside the momentum, so that a change of rate does not touch the steps
// that are under way there. LAMB: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76
// minutes", 2020, algorithm 2, with the identity for phi.
#pragma once

#include "kernels/math/adam.h"
#include "kernels/math/update_rule.h"

namespace plsc::math {

/// trust |w| / (|g| + weight_decay |w|), with the norm of the gradient as it is used: clipped, and without the loss
/// scale. 1 where |w| is 0, whose ratio would hold the tensor at 0 for good, and where the denominator is 0: then
/// nothing moves whatever the ratio is. `w_norm` and `g_norm` may not be NaN, which a judged gradient is not.
PLSC_HD inline double lars_ratio(const UpdateRule& r, double w_norm, double g_norm) {
  const double denominator = g_norm + static_cast<double>(r.weight_decay) * w_norm;
  return w_norm > 0 && denominator > 0 ? static_cast<double>(r.trust) * w_norm / denominator : 1.0;
}

/// |w| / |u|, u being adam_direction's values. 1 where either is 0, for the same reasons.
PLSC_HD inline double lamb_ratio(double w_norm, double u_norm) {
  return w_norm > 0 && u_norm > 0 ? w_norm / u_norm : 1.0;
}

/// The rate of a tensor.
PLSC_HD inline float layer_rate(float lr, double ratio) { return static_cast<float>(static_cast<double>(lr) * ratio); }

/// v = momentum v + rate (gradient_scale g + weight_decay w); w -= v. `rate`: layer_rate. Where the ratio is 1,
/// which is how biases and norms are treated, and the rate constant, this is SGD whose v is lr times as large.
PLSC_HD inline void lars_update(const UpdateRule& r, float rate, float g, float& w, float& v) {
  v = r.momentum * v + rate * (r.gradient_scale * g + r.weight_decay * w);
  w -= v;
}

/// The second half of LAMB's update, after adam_moments. `rate`: layer_rate.
PLSC_HD inline void lamb_update(const AdamRule& r, float rate, float& w, float m, float v) {
  w -= rate * adam_direction(r, w, m, v);
}

}  // namespace plsc::math
