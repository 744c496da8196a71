// A residual network from the images to the embeddings: stem, stages of blocks, tail. Which blocks and which tail make
// it an iresnet, a torchvision resnet or PLSC's network.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/block.h"
#include "nn/init.h"
#include "nn/linear.h"
#include "nn/pool.h"

namespace plsc {

/// Convolution -> BN -> PReLU (3x3), or convolution -> BN -> ReLU -> max pool (7x7, torchvision).
class Stem final : public Block {
 public:
  static std::unique_ptr<Stem> prelu(const BlockFactory& make, int64_t channels, int64_t width);
  static std::unique_ptr<Stem> torchvision(const BlockFactory& make, int64_t channels, int64_t width);

  Tensor forward(Context& context, const Tensor& x, const Pass& pass) override;
  Tensor backward(Context& context, const Tensor& dy, bool want_dx) override;
  void visit(ParamVisitor& visitor) override;
  void finish_step(Context& context) override { layer_.norm.finish_step(context); }

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
  void finish_step(Context& context) override;

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
  void visit(ParamVisitor& visitor) override { linear_.visit(visitor); }
  void finish_step(Context&) override {}

 private:
  Pool pool_;
  Dropout dropout_;
  Linear linear_;
  Dtype pooled_dtype_ = Dtype::f32;
};

class ResidualNetwork final : public Backbone {
 public:
  /// A named piece that is frozen as a whole.
  struct Part {
    std::string name;
    std::vector<std::unique_ptr<Block>> blocks;
  };
  struct Options {
    std::string name;
    int64_t height = 0, width = 0, channels = 0;  // of the images
    int64_t embedding_size = 0;
    bool synchronised = false;
    InitScheme init = InitScheme::arcface_torch;
  };
  /// `ops`: what the convolutions of `parts` share.
  ResidualNetwork(Options options, std::unique_ptr<ConvOps> ops, std::vector<Part> parts);

  Tensor forward(Context& context, const Tensor& x, Mode mode, const StepInfo& step) override;
  Tensor backward(Context& context, const Tensor& dy) override;
  void visit(ParamVisitor& visitor) override;
  void finish_step(Context& context) override;
  void init(Context& context, const WantedParams& wanted) override {
    draw_weights(context, params(), options_.init, wanted);
  }
  int64_t embedding_size() const override { return options_.embedding_size; }
  std::string description() const override;
  std::vector<std::string> parts() const override;
  void freeze(const std::vector<std::string>& names) override;

 private:
  Pass make_pass(Context& context, const Tensor& x, Mode mode, const StepInfo& step) const;
  void announce(Block& block);

  Options options_;
  std::unique_ptr<ConvOps> ops_;
  std::vector<Part> parts_;
  size_t first_trainable_ = 0;  // the parts below are frozen: nothing is saved in them, and no gradient reaches them
  int64_t parameters_ = 0;
};

}  // namespace plsc
