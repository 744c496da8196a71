// The compute seam, part 3: optimizer arithmetic on replicated parameters (rows of class centres: head_ops.h).
#pragma once
#include <span>

#include "kernels/math/sgd.h"
#include "tensor/param.h"

namespace plsc {

class OptimOps {
 public:
  virtual ~OptimOps() = default;
  /// Updates value and momentum (fp32) from grad (fp32, or fp64, which is rounded first).
  virtual void sgd(Param& param, const math::SgdRule& rule) = 0;
  /// Sum of squares over all gradients (fp32 or fp64), in double, in a fixed order.
  virtual double sum_of_squares(std::span<const Tensor> gradients) = 0;
};

}  // namespace plsc
