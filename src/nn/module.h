// Modules: layers with explicit forward and backward passes. No autograd.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "runtime/context.h"
#include "tensor/param.h"

namespace plsc {

enum class Mode { train, eval };

/// Sees all named state of a module, in a fixed order that is the same on every rank.
class ParamVisitor {
 public:
  virtual ~ParamVisitor() = default;
  virtual void param(Param& param) = 0;
  /// A tensor that every rank must sum (fp32) together with the gradients of the step: batch-norm statistics.
  virtual void summed(Tensor&) {}
};

/// One layer or a tree of layers. forward saves what backward needs (by sharing storage with x); in eval mode it saves
/// nothing. One backward per forward in train mode; gradients ADD to Param::grad (zero_grad starts a step).
class Module {
 public:
  virtual ~Module() = default;
  virtual Tensor forward(Context& context, const Tensor& x, Mode mode, const StepInfo& step) = 0;
  virtual Tensor backward(Context& context, const Tensor& dy) = 0;
  virtual void visit(ParamVisitor& visitor) = 0;
  /// Once a step, after the gradients and `summed` tensors have been reduced over the ranks (and not for a step that
  /// is skipped): batch norms fold the merged statistics into their running buffers.
  virtual void finish_step(Context&) {}
};

/// An embedding network: images (N, H, W, C) normalised -> embeddings (N, D) fp32.
class Backbone : public Module {
 public:
  virtual int64_t embedding_size() const = 0;
  /// Parameters and buffers in visiting order.
  std::vector<Param*> params();
  std::vector<Tensor> summed();
  /// "iresnet50, 43.59 M parameters"
  virtual std::string description() const = 0;
};

}  // namespace plsc
