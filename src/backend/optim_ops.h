// The compute seam, part 3: optimizer arithmetic on replicated parameters (rows of class centres: head_ops.h).
#pragma once
#include <span>

#include "tensor/param.h"

namespace plsc {

/// SGD as torch.optim.SGD computes it (dampening 0):
/// g' = gradient_scale * g + weight_decay * w; v = momentum * v + g'; w -= lr * (nesterov ? g' + momentum * v : v).
/// A fresh v of zero makes the first step v = g', as PyTorch's does. The scalar truth is kernels/math/sgd.h.
struct SgdStep {
  float lr = 0;
  float momentum = 0.9f;
  float weight_decay = 0;
  bool nesterov = false;
  float gradient_scale = 1;  // clipping
};

class OptimOps {
 public:
  virtual ~OptimOps() = default;
  /// Updates value and momentum from grad, all fp32.
  virtual void sgd(Param& param, const SgdStep& step) = 0;
  /// Sum of squares over all gradients, in double, in a fixed order.
  virtual double sum_of_squares(std::span<const Tensor> gradients) = 0;
};

}  // namespace plsc
