// Stochastic gradient descent on the replicated parameters, as torch.optim.SGD computes it, with clipping by the
// global norm as torch.nn.utils.clip_grad_norm_ does. State lives in Param::momentum.
#pragma once
#include <span>

#include "config/config.h"
#include "runtime/context.h"
#include "tensor/param.h"

namespace plsc {

/// Starts a step: the next backward pass overwrites the gradients.
void zero_grad(std::span<Param* const> params);

class Sgd {
 public:
  /// `clip_norm` 0: no clipping.
  Sgd(const OptimizerConfig& config, double clip_norm);

  /// One update of every trainable parameter from its reduced gradient; buffers and frozen parameters stay as they are.
  /// Gradients are scaled by min(1, clip_norm / (norm + 1e-6)). Returns the global L2 norm before clipping.
  /// A norm that is not finite throws Error naming the step, before anything is changed; as the gradients have been
  /// reduced, every rank sees the same norm and throws.
  double step(Context& context, std::span<Param* const> params, double lr, int64_t step) const;

 private:
  OptimizerConfig config_;
  double clip_norm_;
};

}  // namespace plsc
