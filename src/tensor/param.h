// Named state of a network: what the optimizer changes, what a checkpoint stores, what ranks must agree on.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace plsc {

enum class ParamKind {
  weight,  // convolution and linear weights
  bias,    // biases of linear layers
  norm,    // scale and shift of batch norms, PReLU slopes
  buffer,  // running statistics: no gradient, no optimizer
};

/// A rank's part of a compressed gradient (optim/compressor.h): elements [begin, begin + size) of its node's `whole`,
/// of which those beyond the tensor's own are padding.
struct GradientPart {
  int64_t begin = 0, size = 0, whole = 0;
  int64_t node = 0, nodes = 0;
  bool defined() const { return size > 0; }
};

/// One named tensor of the replicated part of a network. Master values are fp32 in PyTorch's layout
/// (convolution: O, I, H, W; linear: O, I); the names are those of torchvision or arcface_torch.
struct Param {
  std::string name;
  Tensor value;
  Tensor grad;        // fp32, same shape; undefined for buffers and frozen parameters
  Tensor momentum;    // fp32, same shape; undefined until the optimizer makes it. AdamW, LAMB: the mean of gradients
  Tensor squares;     // the same: the mean of their squares; of AdamW and LAMB alone
  Tensor unsent;      // (part.size) fp32: what has accumulated of a compressed gradient since it was sent last
  GradientPart part;  // of a compressed gradient; `momentum` then is of this part, and this node's alone
  Tensor average;     // the running average of `value`, where one is kept (train.ema); of buffers, too
  /// `grad` holds nothing of this step yet: the next backward pass writes it instead of adding to it. zero_grad sets
  /// this, so that no pass over the gradients is spent on zeros.
  bool grad_stale = true;
  ParamKind kind = ParamKind::weight;
  bool frozen = false;  // no gradient, no decay, no update (init.freeze; arcface_torch's features.weight)

  bool trainable() const { return kind != ParamKind::buffer && !frozen; }
};

}  // namespace plsc
