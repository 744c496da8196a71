// Modules: networks with explicit forward and backward passes. No autograd.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "nn/saved.h"
#include "runtime/context.h"
#include "tensor/param.h"

namespace plsc {

class BatchNorm;

enum class Mode { train, eval };

/// Sees all named state of a module, in a fixed order that is the same on every rank.
class ParamVisitor {
 public:
  virtual ~ParamVisitor() = default;
  virtual void param(Param& param) = 0;
  /// A tensor that every rank must sum (fp64) together with the gradients of the step: batch-norm statistics.
  virtual void summed(Tensor&) {}
  /// A batch norm, whose running statistics take the step's in at its end.
  virtual void norm(BatchNorm&) {}
  /// What a layer keeps between two passes.
  virtual void saved(SavedPlaces&) {}
};

/// One layer or a tree of layers. forward saves what backward needs (by sharing storage with x); in eval mode it saves
/// nothing. One backward per forward in train mode; gradients ADD to Param::grad (zero_grad starts a step). Several
/// micro-batches may be between their two passes, each in a place of its own (use_place).
class Module {
 public:
  virtual ~Module() = default;
  virtual Tensor forward(Context& context, const Tensor& x, Mode mode, const StepInfo& step) = 0;
  /// The gradient of x, or undefined where nobody asks for it (a network's images).
  virtual Tensor backward(Context& context, const Tensor& dy) = 0;
  virtual void visit(ParamVisitor& visitor) = 0;
  /// Once a step, after the gradients and `summed` tensors have been reduced over the ranks (and not for a step that
  /// is skipped): batch norms fold the merged statistics into their running buffers.
  void finish_step(Context& context);
  /// Instead of this step's forward and backward passes a recording of earlier ones was played back.
  void step_was_played(int64_t step);
  /// The next passes are of the micro-batch in this place: 0, 1, ... In a place a forward pass in train mode is
  /// followed by its own backward pass; those in other places may stand between the two. 0 until somebody says so.
  void use_place(size_t place);
};

/// An embedding network: images (N, H, W, C) normalised -> embeddings (N, D) fp32.
class Backbone : public Module {
 public:
  virtual int64_t embedding_size() const = 0;
  /// Parameters and buffers in visiting order: that of PyTorch's state_dict.
  std::vector<Param*> params();
  /// The tensors that ride with the gradients; their storage may be moved (grad_sync puts all into one buffer).
  std::vector<Tensor*> summed();
  /// Draws first values of weights and biases, all of them or the `wanted` ones, from (context.seed, index of the
  /// parameter, index of the element): the same on any rank count, and whatever else is drawn. A network is made
  /// without them, because most are read from a checkpoint. Norms, slopes and buffers have theirs from the start.
  virtual void init(Context& context, const std::function<bool(const Param&)>& wanted = {}) = 0;
  /// "iresnet50, 43.59 M parameters"
  virtual std::string description() const = 0;

  /// Parts that `freeze` knows, from the images up: "stem", "layer1", ..., "tail".
  virtual std::vector<std::string> parts() const = 0;
  /// Keeps these parts as they are: no gradient, no decay, batch norms use their running statistics. The backward
  /// pass ends above the lowest part that is not frozen. Error for a name that is not one of `parts()`.
  virtual void freeze(const std::vector<std::string>& names) = 0;
  /// Throws Error where training on `smallest` images, the fewest that any rank has in a micro-batch, would leave a
  /// batch norm with a single row. The same on every rank; call it after `freeze`, before the first step.
  virtual void require_batch(const Context& context, int64_t smallest) const = 0;

  // Module::backward in two parts, for several micro-batches that are in the places 0, 1, ...: first the top block of
  // each, in their order, then the blocks below, each for all of them. A block's gradients are complete when its last
  // micro-batch is, and may be on their way while the blocks below it are computed.
  /// The top block, of the micro-batch in use (use_place): the gradient of what it was given, for backward_below.
  virtual Tensor backward_top(Context& context, const Tensor& dy) { return backward(context, dy); }
  /// The rest, from what backward_top gave, by place. A network that is one block has none.
  virtual void backward_below(Context&, std::vector<Tensor> /*gradients*/) {}

  /// Called in the backward pass with each parameter whose gradient of this (micro-)batch has become complete, so
  /// that its all-reduce can start while the rest is computed. Empty: nobody listens.
  std::function<void(Param&)> on_gradient;
};

/// The network that `config` describes for images of image_size (height, width) with `channels` channels. Its weights
/// are zero until they are read from a checkpoint, or drawn by Backbone::init.
/// Images may be of any size. Error where the description is inconsistent.
std::unique_ptr<Backbone> make_backbone(Context& context, const ModelConfig& config, std::array<int64_t, 2> image_size,
                                        int64_t channels);

}  // namespace plsc
