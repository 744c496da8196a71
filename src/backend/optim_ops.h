// The compute seam, part 3: optimizer arithmetic on replicated parameters (rows of class centres: head_ops.h).
#pragma once
#include <span>
#include <vector>

#include "kernels/math/average.h"
#include "kernels/math/step_state.h"
#include "tensor/param.h"

namespace plsc {

/// Parameters that are updated alike.
struct ParamGroup {
  std::vector<Param*> params;
  math::UpdateGroup rule;
};

class OptimOps {
 public:
  virtual ~OptimOps() = default;
  /// Writes the sum of squares over all gradients (fp32 or fp64; in double, in a fixed order) into the step's state and
  /// judges it (math::judge_gradient): the factor of the updates, or a mark that it is not finite.
  virtual void judge_gradients(std::span<const Tensor> gradients) = 0;
  /// The head's part of that norm, before it is judged. sums (n) fp64 written: the squares of the n equal parts of
  /// `gradient` (fp32), one behind the other; in double, in a fixed order.
  virtual void squares(const Tensor& gradient, Tensor& sums) = 0;
  /// Adds `sums` (fp64) up in their order, one by one, into the state (math::StepState::head_squares).
  virtual void note_head_squares(const Tensor& sums) = 0;
  /// gradient (fp32) times the state's clipping factor; nothing where updates are blocked.
  virtual void clip(Tensor& gradient) = 0;
  /// Marks an element that is not finite in the step's state.
  virtual void check_finite(const Tensor& gradient) = 0;
  /// Updates value, momentum and, where the kind has a second moment, squares (fp32) of each from grad (fp32, or fp64,
  /// which is rounded first) by the state's rule and the group's. Norms for trust ratios are summed in double, in a
  /// fixed order. Where updates are blocked, nothing is changed.
  virtual void update(std::span<const ParamGroup> groups) = 0;
  /// math::average_in of each parameter's value into its average (fp32), where it is this update's turn; nothing where
  /// updates are blocked. After `update`, before `finish_step`.
  virtual void average(std::span<Param* const> params, const math::AverageRule& rule) = 0;
  /// After the last update of a step: what the next step begins with (math::finish_step).
  virtual void finish_step() = 0;
};

}  // namespace plsc
