// The compute seam, part 6: sparse sums of gradients (optim/compressor.h). What depends on the step is read from its
// state (kernels/math/step_state.h). Where updates are blocked, weights and what is kept of gradients stay as they are.
#pragma once
#include <span>

#include "kernels/math/step_state.h"
#include "tensor/param.h"

namespace plsc {

/// A rank's part of one tensor, n elements of it, fp32.
struct UnsentPart {
  Tensor grad;        // as the backward pass left it: with the loss scale
  Tensor value;       // the weights
  Tensor velocity;    // the momentum of this part's gradients
  Tensor unsent;      // what has accumulated since it was sent last
  Tensor squares;     // (2) fp64, sums of squares of value and grad, for math::local_trust_ratio; undefined: no ratio
  int64_t nodes = 1;  // math::UnsentTerms
};

/// Where the taken elements are written: k of each, i32. Elements that there are not are math::kNothingSent and 0.
struct SentPart {
  Tensor indices;     // first + the element's index in the part
  Tensor bits;        // the value's, fp32
  int64_t first = 0;  // of the part, in the flat buffer that `scatter` adds to
};

class CompressOps {
 public:
  virtual ~CompressOps() = default;
  /// Takes the k largest elements, by magnitude, of what the part would keep unsent after this step
  /// (math::accumulated), in the order of their indices; of equal ones the first. Nothing of the part is changed.
  /// `room` (n) fp32 is overwritten. n fits an int32_t. weight_decay: math::UnsentTerms.
  virtual void select(const UnsentPart& part, float weight_decay, Tensor& room, SentPart& to) = 0;
  /// Accumulates, and forgets of velocity and unsent what was sent (momentum factor masking). After `select` with the
  /// same gradient.
  virtual void keep_rest(const UnsentPart& part, float weight_decay, const SentPart& sent) = 0;
  /// Marks a value that is not finite in the step's state. sent (parts, 2, k) i32: indices and bits of each part.
  virtual void check_finite(const Tensor& sent) = 0;
  /// sum (fp32) = what all parts have sent, added up in their order, times the loss scale. The indices of a part
  /// differ.
  virtual void scatter(const Tensor& sent, Tensor& sum) = 0;
  /// w -= lr g (math::descend), by the state's rate and factor and the group's rate.
  virtual void descend(std::span<Param* const> params, const math::UpdateGroup& group) = 0;
  /// gradient (fp32) times math::local_clip_factor; squares (m) fp64: the sum of them is that of the gradient's.
  virtual void clip(Tensor& gradient, const Tensor& squares, double bound) = 0;
};

}  // namespace plsc
