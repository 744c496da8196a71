// The softmax, element by element: a negative's logit and gradient, and a sample's loss from its sums. Compile loops
// over the first two without re-association (kernels/math/exp.h). A "cosine" is the product of an embedding with a
// class's row: of unit vectors in the margin head, of any two in the linear one.
#pragma once
#include <limits>

#include "kernels/math/exp.h"
#include "kernels/math/margin.h"

namespace plsc::math {

/// No finite product is this small: a cosine below it (-inf) is the mark of a sample's own target, which is left out
/// of sums and maxima.
inline constexpr float kNoCosine = -std::numeric_limits<float>::max();

/// How a cosine becomes a negative's logit: clamped to [-limit, limit], counted as 0 above `filter`, times scale.
/// Infinite bounds stop nothing: the linear head's logits are the products themselves.
struct LogitRule {
  float scale = 1;
  float limit = std::numeric_limits<float>::infinity();
  float filter = std::numeric_limits<float>::infinity();
};

/// NaN passes through.
PLSC_HD_INLINE float negative_logit(float cosine, const LogitRule& rule) {
  const float c = cosine > rule.limit ? rule.limit : (cosine < -rule.limit ? -rule.limit : cosine);
  return rule.scale * (c > rule.filter ? 0.0f : c);
}

/// factor * p with p = exp(logit - log_sum); 0 where the clamp or the filter stopped the cosine.
PLSC_HD_INLINE float negative_gradient(float cosine, const LogitRule& rule, float log_sum, float factor) {
  const float p = exp_float(negative_logit(cosine, rule) - log_sum);
  const bool stopped = (cosine > rule.limit) | (cosine < -rule.limit) | (cosine > rule.filter);
  return stopped ? 0.0f : factor * p;
}

/// One sample's sums: of exp(logit - shift) over its negatives (0: there are none), and its target's cosine.
struct SampleSums {
  double sum = 0, shift = 0, target_cosine = 0;
};
struct SampleLoss {
  double loss;
  float log_sum;          // ln of the sum over all classes of exp(logit)
  float target_gradient;  // d loss / d target cosine, times the scale asked for
};

/// With a = shift + ln sum - z, by which the negatives together lead over the target's logit z, the loss is softplus(a)
/// and p_y - 1 = -sigmoid(a): both keep their digits when the target leads far.
PLSC_HD inline SampleLoss sample_loss(const MarginRule& rule, double scale, const SampleSums& s,
                                      double gradient_scale) {
  const MarginValue margin = math::margin(rule, s.target_cosine);
  const double z = scale * margin.f;
  const double lead = s.sum == 0 ? -std::numeric_limits<double>::infinity() : s.shift + std::log(s.sum) - z;
  const double loss = softplus(lead);
  return {loss, static_cast<float>(z + loss), static_cast<float>(-scale * gradient_scale * sigmoid(lead) * margin.df)};
}

}  // namespace plsc::math
