// What changes with the step and what a step finds out, in one struct in device memory: kernels read and write it
// there, so that the host waits for nothing inside a step and a recorded step can be run again with other numbers.
#pragma once
#include <cmath>
#include <cstdint>

#include "kernels/math/loss_scale.h"
#include "kernels/math/update_rule.h"

namespace plsc::math {

/// Written by the host at the begin of a step (first_sample: of each micro-batch).
struct StepInputs {
  int64_t step = 0;
  int64_t first_sample = 0;  // this rank's, within the step's global batch
  double clip_norm = 0;      // 0: off
  double dynamic_scale = 0;  // not 0: an overflow skips the step and lowers the loss scale (fp16)
  UpdateRule rule{};         // of the replicated parameters, without gradient_scale
};
static_assert(sizeof(StepInputs) % sizeof(double) == 0);

/// Why a step changed nothing.
enum class StepFailure : int64_t { none = 0, loss = 1, gradient = 2 };

struct StepState {
  StepInputs in;
  LossScale loss_scale;
  double grad_squares = 0;  // of the gradients summed over the ranks, loss scale included
  double head_squares = 0;  // of the head's, which has no loss scale, where it counts (train.clip_head)
  double grad_norm = 0;     // the root of both, without the loss scale
  double clip_factor = 1;   // what clipping alone multiplies gradients by
  double grad_factor = 1;   // gradients are multiplied by it in updates: clipping, and the loss scale's inverse
  /// Flags as doubles, so that their maximum over the ranks is a plain all-reduce. `overflow` is of this step. `failed`
  /// holds a StepFailure and stays: from then on nothing is updated, until the host has seen it and ends the run.
  double overflow = 0;
  double failed = 0;
  double updates = 0;  // steps that changed the weights, before this one: what Adam's bias correction counts
};
static_assert(sizeof(StepState) % sizeof(double) == 0);

/// No update of weights, momentum or running statistics may take place.
PLSC_HD inline bool updates_blocked(const StepState& s) { return s.overflow != 0 || s.failed != 0; }

/// A loss or a gradient is not finite.
PLSC_HD inline void mark_not_finite(StepState& s, StepFailure what) {
  if (s.in.dynamic_scale != 0) {
    s.overflow = 1;
  } else if (s.failed == 0) {
    s.failed = static_cast<double>(static_cast<int64_t>(what));
  }
}

/// From the squares to the factors: min(1, clip_norm / (norm + 1e-6)), as clip_grad_norm_ has it; over the loss scale,
/// a power of 2, where that is in the gradient.
PLSC_HD inline void judge_gradient(StepState& s) {
  const double norm = std::sqrt(s.grad_squares / (s.loss_scale.scale * s.loss_scale.scale) + s.head_squares);
  s.grad_norm = norm;
  if (!(norm <= 1.7e308)) {  // NaN, too
    mark_not_finite(s, StepFailure::gradient);
    return;
  }
  const double clip = s.in.clip_norm > 0 ? s.in.clip_norm / (norm + 1e-6) : 1.0;
  s.clip_factor = clip < 1.0 ? clip : 1.0;
  s.grad_factor = s.clip_factor / s.loss_scale.scale;
}

/// Parameters that are updated alike.
struct UpdateGroup {
  UpdateKind kind = UpdateKind::sgd;  // that of the state's rule, which the host cannot see
  float lr = 1;                       // multiplies the rule's
  float weight_decay = 0;             // in place of the rule's
  bool layer_wise = false;            // lars, lamb: by the trust ratio of each tensor
};

/// The rule of this step's updates of a group, from a gradient as it is in memory.
PLSC_HD inline UpdateRule step_rule(const StepState& s, const UpdateGroup& group) {
  UpdateRule rule = s.in.rule;
  rule.gradient_scale = static_cast<float>(s.grad_factor);
  rule.lr *= group.lr;
  rule.weight_decay = group.weight_decay;
  return rule;
}

/// The number of the update that this step makes, from 1 on: adam_rule's.
PLSC_HD inline int64_t update_number(const StepState& s) { return static_cast<int64_t>(s.updates) + 1; }

/// After the updates: what the next step begins with, its loss scale and the number of updates before it.
PLSC_HD inline void finish_step(StepState& s, const LossScaleRule& rule) {
  if (!updates_blocked(s)) s.updates += 1;
  if (s.in.dynamic_scale != 0) s.loss_scale = next_loss_scale(rule, s.loss_scale, s.overflow != 0);
}

}  // namespace plsc::math
