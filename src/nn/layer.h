// What all layers share: what they are told of a pass through the network, and how parameters come by their gradients.
// Layers are plain classes with explicit forward and backward passes; networks are made of them by hand.
#pragma once
#include <string>

#include "nn/module.h"

namespace plsc {

/// Of the passes through a part whose inside is computed again for its backward pass (nn/recompute.h).
enum class Turn {
  only,   // there is no other: layers save what their backward passes need
  first,  // batch norms measure, and keep what the other pass must not find anew; nothing else is saved
  again,  // nothing is measured: the first pass's statistics, and so its very values; layers save
};

/// One pass through the network. A layer saves for its backward pass in train mode and nothing in eval mode.
struct Pass {
  Mode mode = Mode::eval;
  StepInfo step;
  int64_t samples = 0;      // of this rank's (micro-)batch
  int64_t all_samples = 0;  // of the ranks' batches that are measured as one: Context::norms(), or this one's

  Turn turn = Turn::only;

  bool train() const { return mode == Mode::train; }
  bool saves() const { return train() && turn != Turn::first; }
  bool again() const { return turn == Turn::again; }
};

/// A tensor of one value in every element.
Tensor filled(Device& device, Shape shape, float value);
Param make_param(Device& device, const std::string& name, Shape shape, ParamKind kind, float value = 0);

/// Where a backward pass puts the gradient of `param`: the tensor, made at first use, and whether to add to it.
struct GradSlot {
  Tensor& grad;
  bool accumulate;
};
GradSlot grad_slot(Context& context, Param& param);
/// Adds a gradient (fp32 or fp64) that an op wrote elsewhere; nothing for parameters that do not train.
void add_gradient(Context& context, Param& param, const Tensor& gradient);

/// All of them frozen: a part whose values must not change at all.
bool all_frozen(std::initializer_list<const Param*> params);

}  // namespace plsc
