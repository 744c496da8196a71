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
  explicit Sgd(const OptimizerConfig& config);

  /// What a step's state needs to know of this optimizer: its rule with this learning rate.
  math::SgdRule rule(double lr) const;
  /// One update of every trainable parameter from its reduced gradient, by the rule in the step's state; buffers and
  /// frozen parameters stay as they are. Gradients are scaled by min(1, clip_norm / (norm + 1e-6)), and rid of the loss
  /// scale. A norm that is not finite is marked in the state and nothing is changed; as the gradients have been
  /// reduced, every rank sees the same norm.
  void step(Context& context, std::span<Param* const> params) const;

 private:
  OptimizerConfig config_;
};

}  // namespace plsc
