// Sparse sums of gradients: what a step leaves to be sent, and how the largest of it are found. Momentum correction as
// in Lin, Han, Mao, Wang, Dally, "Deep Gradient Compression", ICLR 2018, section 3.2: each rank has a momentum of its
// own, and what accumulates until it is sent is the momentum's steps, not the gradients. Weight decay is part of them,
// as the paper's algorithm has it for whatever the gradient is: an element decays when it is sent. (The authors'
// program has a dense momentum of the decay alone beside it.)
//
// The cut is found exactly, by counting: the bits of a magnitude, read as a number, are in the order of magnitudes, and
// three histograms of them, from the highest bits down, give the k-th largest to its last bit. (The paper's threshold
// of a sample gives about k elements; on a CPU it leaves the exact choice the few that reach it: kernels/cpu/topk.h.)
// What is not finite is larger than all else, so that it is always sent, and seen by all ranks.
#pragma once
#include <cstdint>

#include "kernels/math/sgd.h"
#include "kernels/math/step_state.h"
#include "kernels/math/trust.h"

namespace plsc::math {

/// What a node's gradient of a tensor is a part of.
struct UnsentTerms {
  float weight_decay = 0;           // of the whole update
  int64_t nodes = 1;                // whose gradients add up to it; each adds its share of the decay
  const double* squares = nullptr;  // (2) of the weights, and of the gradient as it is in memory; null: no trust ratio
};

/// The trust ratio of LARS by what a node knows: the norm of the whole gradient is taken as that of as many independent
/// ones as there are nodes, the root of `nodes` times its own, as the paper divides its bound of clipping by that root.
/// Where the nodes' gradients agree, the ratio is too large by that root at the most.
PLSC_HD inline double local_trust_ratio(const UnsentTerms& terms, UpdateRule rule, double loss_scale) {
  rule.weight_decay = terms.weight_decay;
  return lars_ratio(rule, std::sqrt(terms.squares[0]),
                    std::sqrt(static_cast<double>(terms.nodes) * terms.squares[1]) / loss_scale);
}

/// The rule of what accumulates in this step, from gradients as they are in memory: with the loss scale. A trust ratio
/// is of the step that the gradient belongs to, so it comes before the momentum.
PLSC_HD inline SgdRule unsent_rule(const StepState& s, const UnsentTerms& terms) {
  SgdRule rule{0, s.in.rule.momentum, terms.weight_decay / static_cast<float>(terms.nodes),
               static_cast<float>(1 / s.loss_scale.scale), s.in.rule.nesterov};
  if (terms.squares != nullptr) {
    const double ratio = local_trust_ratio(terms, s.in.rule, s.loss_scale.scale);
    rule.weight_decay = static_cast<float>(ratio * static_cast<double>(rule.weight_decay));
    rule.gradient_scale = static_cast<float>(ratio / s.loss_scale.scale);
  }
  return rule;
}

/// One element: g' = gradient_scale g + weight_decay w; u = momentum u + g'; the result is v + (nesterov ? g' +
/// momentum u : u), where sgd_update would step by the bracket at once.
PLSC_HD_INLINE float accumulated(const SgdRule& rule, float g, float w, float& u, float v) {
  const float decayed = rule.gradient_scale * g + rule.weight_decay * w;
  u = rule.momentum * u + decayed;
  return v + (rule.nesterov ? decayed + rule.momentum * u : u);
}

/// A gradient without a momentum of the optimizer's: w -= lr gradient_scale g.
PLSC_HD_INLINE void descend(const SgdRule& rule, float g, float& w) { w -= rule.lr * (rule.gradient_scale * g); }

/// What a rank's gradient is multiplied by so that its norm, without the loss scale, is at most `bound`.
PLSC_HD inline float local_clip_factor(double squares, double loss_scale, double bound) {
  const double factor = bound / (std::sqrt(squares) / loss_scale + 1e-6);
  return factor < 1 ? static_cast<float>(factor) : 1.0F;  // what is not finite stays so: infinity times 0 is NaN
}

/// The histograms: of how many bits, from the highest on, and where these end.
inline constexpr int kTopkLevels = 3;
inline constexpr int kTopkBins = 2048;  // of a level, at most
PLSC_HD inline int topk_shift(int level) { return level == 0 ? 20 : level == 1 ? 9 : 0; }
PLSC_HD inline int topk_bins(int level) { return level == 2 ? 512 : kTopkBins; }

/// How far the cut is known.
struct TopkCut {
  uint32_t bits = 0;  // of the smallest magnitude that is taken: above the last level's shift; the rest 0
  uint32_t all = 0;   // 1: fewer than wanted are not 0, and all of these are taken
  int64_t left = 0;   // to be taken of those that have these bits; the first ones, where there are more
};

/// The bin of a magnitude in a level's histogram; below 0: it is in none. Zeros are never taken.
PLSC_HD_INLINE int topk_bin(const TopkCut& cut, int level, uint32_t magnitude) {
  if (magnitude == 0) return -1;
  if (level > 0 && (magnitude >> topk_shift(level - 1)) != (cut.bits >> topk_shift(level - 1))) return -1;
  return static_cast<int>(magnitude >> topk_shift(level)) & (topk_bins(level) - 1);
}

/// Whether an element is taken whatever its index, and whether it is one of those that the last places go to.
PLSC_HD_INLINE bool above_cut(const TopkCut& cut, uint32_t magnitude) {
  return cut.all != 0 ? magnitude != 0 : magnitude > cut.bits;
}
PLSC_HD_INLINE bool at_cut(const TopkCut& cut, uint32_t magnitude) {
  return cut.all == 0 && magnitude == cut.bits && magnitude != 0;
}

/// A bit pattern of fp32 with an exponent of ones alone: an infinity or NaN.
PLSC_HD_INLINE bool bits_not_finite(uint32_t bits) { return (bits & 0x7F800000U) == 0x7F800000U; }

/// A rank's place where nothing is sent.
inline constexpr int32_t kNothingSent = -1;

}  // namespace plsc::math
