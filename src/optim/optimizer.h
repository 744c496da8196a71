// The update of the replicated parameters (optimizer.name), with clipping by the global norm as
// torch.nn.utils.clip_grad_norm_ does it. Formulas: kernels/math/{sgd,adam,trust}.h. State lives in Param.
#pragma once
#include <span>

#include "config/config.h"
#include "runtime/context.h"
#include "tensor/param.h"

namespace plsc {

/// Starts a step: the next backward pass overwrites the gradients.
void zero_grad(std::span<Param* const> params);

/// What updates the class centres: optimizer.head.name, or optimizer.name.
math::UpdateKind head_update(const OptimizerConfig& config);

class Optimizer {
 public:
  explicit Optimizer(const OptimizerConfig& config);

  /// What a step's state needs to know of this optimizer: its rule with this learning rate. Which update it is, for
  /// bias corrections, the state counts itself: a step that fp16 leaves out is none, as with torch.amp.GradScaler.
  math::UpdateRule rule(double lr) const;
  /// The same for the class centres (optimizer.head).
  math::UpdateRule head_rule(double lr) const;

  /// Makes the state that is not there yet (read from a checkpoint): zeros, as it begins. `step` does, too.
  void begin(Context& context, std::span<Param* const> params) const;
  /// One update of every trainable parameter from its reduced gradient, by the rule in the step's state; buffers and
  /// frozen parameters stay as they are. The trust ratios of LARS and LAMB are those of weights: norms, slopes and
  /// biases are small, and their length says little about how far they may move. Gradients are scaled by min(1,
  /// clip_norm / (norm + 1e-6)), and rid of the loss scale. A norm that is not finite is marked in the state and
  /// nothing is changed; as the gradients have been reduced, every rank sees the same norm. A compressed gradient
  /// (optim/compressor.h) has its momentum and its decay in it, and is descended as it is.
  void step(Context& context, std::span<Param* const> params) const;

 private:
  OptimizerConfig config_;
  math::UpdateGroup weights_, norms_;  // norms, slopes and biases
};

}  // namespace plsc
