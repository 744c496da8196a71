// The first and the last layers of the residual networks.
#pragma once
#include <memory>
#include <optional>

#include "nn/block.h"
#include "nn/linear.h"
#include "nn/pool.h"

namespace plsc {

/// Convolution -> BN -> PReLU (3x3), or convolution -> BN -> ReLU -> max pool (7x7, torchvision).
class Stem final : public RepeatableBlock {
 public:
  static std::unique_ptr<Stem> prelu(const BlockFactory& make, int64_t channels, int64_t width);
  static std::unique_ptr<Stem> torchvision(const BlockFactory& make, int64_t channels, int64_t width);

  Tensor forward(Context& context, const Tensor& x, const Pass& pass) override;
  /// Of a pooling nothing is kept that is worth computing again.
  void repeat(Context& context, const Tensor& x, const Pass& pass) override { layer_.repeat(context, x, pass); }
  Tensor backward(Context& context, const Tensor& dy, bool want_dx) override;
  void visit(ParamVisitor& visitor) override;
  void feed(BatchNorm& next) override {
    if (!pool_) layer_.norm.feed(next);
  }

 private:
  explicit Stem(ConvNorm layer) : layer_(std::move(layer)) {}

  ConvNorm layer_;
  std::optional<Param> slope_;  // else ReLU
  std::optional<Pool> pool_;
};

/// BN -> flatten -> dropout -> linear -> BN. In fp32 behind the first batch norm, whatever the activations are.
class IrTail final : public Block {
 public:
  struct Options {
    int64_t channels = 0, features = 0;  // features: channels * height * width
    int64_t embedding_size = 0;
    float dropout = 0;
    bool fixed_scale = true;  // of the last batch norm
  };
  IrTail(const BlockFactory& make, const Options& options);

  Tensor forward(Context& context, const Tensor& x, const Pass& pass) override;
  Tensor backward(Context& context, const Tensor& dy, bool want_dx) override;
  void visit(ParamVisitor& visitor) override;
  BatchNorm* input_norm() override { return &norm_; }

 private:
  BatchNorm norm_;
  Dropout dropout_;
  Linear linear_;
  BatchNorm features_;
};

/// Average over the feature map -> dropout -> linear, the latter two in fp32.
class PooledTail final : public Block {
 public:
  PooledTail(const BlockFactory& make, int64_t channels, int64_t embedding_size, float dropout);

  Tensor forward(Context& context, const Tensor& x, const Pass& pass) override;
  Tensor backward(Context& context, const Tensor& dy, bool want_dx) override;
  void visit(ParamVisitor& visitor) override {
    pool_.visit(visitor);
    linear_.visit(visitor);
  }

 private:
  Pool pool_;
  Dropout dropout_;
  Linear linear_;
  Dtype pooled_dtype_ = Dtype::f32;
};

}  // namespace plsc
