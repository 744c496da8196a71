// The residual blocks of the networks: IR blocks (arcface_torch, PLSC) and torchvision's basic and bottleneck blocks.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/batch_norm.h"
#include "nn/conv.h"

namespace plsc {

/// A piece of a network with one input and one output.
class Block {
 public:
  virtual ~Block() = default;
  virtual Tensor forward(Context& context, const Tensor& x, const Pass& pass) = 0;
  /// dx, or undefined where it is not wanted (everything below is frozen, or is the images).
  virtual Tensor backward(Context& context, const Tensor& dy, bool want_dx) = 0;
  virtual void visit(ParamVisitor& visitor) = 0;

  /// The batch norm that the block's input goes to first, or null: it can be measured while that input is written.
  virtual BatchNorm* input_norm() { return nullptr; }
  /// `next` is the input norm of the block behind this one; both live equally long.
  virtual void feed(BatchNorm&) {}
};

/// A block whose inside need not be kept from its forward pass to its backward pass (nn/recompute.h).
class RepeatableBlock : public Block {
 public:
  /// The forward pass again, on the same x, as far as the backward pass needs it: that of a pass with Turn::first is
  /// then what it would have been behind one with Turn::only. The output is not computed, and no rank waits for
  /// another.
  virtual void repeat(Context& context, const Tensor& x, const Pass& pass) = 0;
};

/// What the blocks of a network are built with.
struct BlockFactory {
  Device& device;
  ConvOps& ops;
  float eps = 1e-5f;
  bool synchronised = false;
  bool shared_slope = false;  // one PReLU slope for all channels of a layer

  Conv conv(const std::string& name, const ConvShape& shape) const { return Conv(device, ops, name, shape); }
  BatchNorm norm(const std::string& name, int64_t channels, bool fixed_scale = false) const {
    return BatchNorm(device, name, {channels, eps, synchronised, fixed_scale});
  }
  Param slope(const std::string& name, int64_t channels) const {
    return make_param(device, name + ".weight", {shared_slope ? 1 : channels}, ParamKind::norm, 0.25f);
  }
};

/// A convolution and its batch norm.
struct ConvNorm {
  Conv conv;
  BatchNorm norm;

  void repeat(Context& context, const Tensor& x, const Pass& pass) { norm.restore(conv.forward(context, x, pass)); }
  void visit(ParamVisitor& visitor) {
    conv.visit(visitor);
    norm.visit(visitor);
  }
};

struct BlockShape {
  int64_t in = 0;      // channels
  int64_t width = 0;   // channels of the inner convolutions
  int64_t stride = 1;  // of the block
};

/// x -> BN -> 3x3 -> BN -> PReLU -> 3x3 (stride) -> BN, + x or BN(1x1 (stride)(x)). No activation behind the sum.
/// (Deng et al., "ArcFace", CVPR 2019, as arcface_torch and PLSC build it.)
class IrBlock final : public RepeatableBlock {
 public:
  IrBlock(const BlockFactory& make, const std::string& name, const BlockShape& shape);
  Tensor forward(Context& context, const Tensor& x, const Pass& pass) override;
  void repeat(Context& context, const Tensor& x, const Pass& pass) override;
  Tensor backward(Context& context, const Tensor& dy, bool want_dx) override;
  void visit(ParamVisitor& visitor) override;
  BatchNorm* input_norm() override { return &norm1_; }
  void feed(BatchNorm& next) override { norm3_.feed(next); }

 private:
  /// Up to what the last batch norm is given.
  Tensor inside(Context& context, const Tensor& x, const Pass& pass);

  BatchNorm norm1_;
  Conv conv1_;
  BatchNorm norm2_;
  Param slope_;
  Conv conv2_;
  BatchNorm norm3_;
  std::optional<ConvNorm> downsample_;
};

/// He et al., "Deep residual learning", CVPR 2016, with the stride in the 3x3 convolution as torchvision has it:
/// basic 3x3 (stride), 3x3; bottleneck 1x1, 3x3 (stride), 1x1 to four times the width. ReLU behind each batch norm,
/// for the last one behind the sum with x or BN(1x1 (stride)(x)).
class ResidualBlock final : public RepeatableBlock {
 public:
  static constexpr int64_t kExpansion = 4;  // of a bottleneck

  ResidualBlock(const BlockFactory& make, const std::string& name, const BlockShape& shape, bool bottleneck);
  Tensor forward(Context& context, const Tensor& x, const Pass& pass) override;
  void repeat(Context& context, const Tensor& x, const Pass& pass) override;
  Tensor backward(Context& context, const Tensor& dy, bool want_dx) override;
  void visit(ParamVisitor& visitor) override;

 private:
  /// Up to what the last batch norm is given.
  Tensor inside(Context& context, const Tensor& x, const Pass& pass);
  Tensor sum(Context& context, const Tensor& a, const Tensor& b) const;

  std::vector<ConvNorm> layers_;
  std::optional<ConvNorm> downsample_;
  Tensor identity_;  // statistics of a batch norm that changes nothing
};

}  // namespace plsc
