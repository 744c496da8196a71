// The softmax, whole or dissected, element by element: a negative's logit and gradient, and a sample's loss from its
// sums. Compile loops over the first two without re-association (kernels/math/exp.h). A "cosine" is the product of an
// embedding with a class's row: of unit vectors, but in the linear head of any two.
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

/// factor * p with p = exp(logit - log_sum), log_sum as sample_loss gives it; 0 where the clamp or the filter stopped
/// the cosine.
PLSC_HD_INLINE float negative_gradient(float cosine, const LogitRule& rule, float log_sum, float factor) {
  const float p = exp_float(negative_logit(cosine, rule) - log_sum);
  const bool stopped = (cosine > rule.limit) | (cosine < -rule.limit) | (cosine > rule.filter);
  return stopped ? 0.0f : factor * p;
}

/// How a sample's loss follows from its target's cosine and its negatives.
struct LossRule {
  MarginRule margin = {};  // of the target
  double scale = 1;        // of the target's logit, as LogitRule::scale of the others
  /// Softmax Dissection (He, Wang, Li and Wang, AAAI 2020): the target and the negatives are not weighed against each
  /// other, but each against a constant: the target (intra) against a cosine of `termination`, where it has come far
  /// enough; the negatives (inter) together against a cosine of 0.
  bool dissected = false;
  double termination = 0;
};

/// One sample's sums: of exp(logit - shift) over its negatives (0: there are none), and its target's cosine.
struct SampleSums {
  double sum = 0, shift = 0, target_cosine = 0;
};
struct SampleLoss {
  double loss;
  double intra;           // the target's part of a dissected loss; else 0
  float log_sum;          // ln of the sum over all classes of exp(logit); dissected: with a 1 in the target's place
  float target_gradient;  // d loss / d target cosine, times the scale asked for
};

/// Softmax. With a = shift + ln sum - z, by which the negatives together lead over the target's logit z, the loss is
/// softplus(a) and p_y - 1 = -sigmoid(a): both keep their digits when the target leads far.
/// Dissected. ln(1 + exp(scale termination - z)) + ln(1 + sum exp(logit)): a softplus each, of
/// a = scale termination - z and of shift + ln sum, for the same reason and with nothing to overflow.
PLSC_HD inline SampleLoss sample_loss(const LossRule& rule, const SampleSums& s, double gradient_scale) {
  const MarginValue target = margin(rule.margin, s.target_cosine);
  const double z = rule.scale * target.f;
  const double negatives = s.sum == 0 ? -std::numeric_limits<double>::infinity() : s.shift + std::log(s.sum);
  const double lead = (rule.dissected ? rule.scale * rule.termination : negatives) - z;
  const double pull = softplus(lead);
  const auto slope = static_cast<float>(-rule.scale * gradient_scale * sigmoid(lead) * target.df);
  if (!rule.dissected) return {pull, 0, static_cast<float>(z + pull), slope};
  const double push = softplus(negatives);
  return {pull + push, pull, static_cast<float>(push), slope};
}

}  // namespace plsc::math
