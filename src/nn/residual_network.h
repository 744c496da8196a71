// A residual network from the images to the embeddings: stem, stages of blocks, tail. Which blocks and which tail make
// it an iresnet, a torchvision resnet or PLSC's network.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "nn/block.h"
#include "nn/init.h"

namespace plsc {

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
    SyncBatchNorm sync;
    size_t lone_rows = 0;  // the first part in which a batch norm has one row an image; the number of parts: none has
    InitScheme init = InitScheme::arcface_torch;
  };
  /// `ops`: what the convolutions of `parts` share.
  ResidualNetwork(Options options, std::unique_ptr<ConvOps> ops, std::vector<Part> parts);

  Tensor forward(Context& context, const Tensor& x, Mode mode, const StepInfo& step) override;
  Tensor backward(Context& context, const Tensor& dy) override;
  Tensor backward_top(Context& context, const Tensor& dy) override;
  void backward_below(Context& context, std::vector<Tensor> gradients) override;
  void visit(ParamVisitor& visitor) override;
  void init(Context& context, const WantedParams& wanted) override {
    draw_weights(context, params(), options_.init, wanted);
  }
  int64_t embedding_size() const override { return options_.embedding_size; }
  std::string description() const override;
  std::vector<std::string> parts() const override;
  void freeze(const std::vector<std::string>& names) override;
  void require_batch(const Context& context, int64_t smallest) const override;

 private:
  Pass make_pass(Context& context, const Tensor& x, Mode mode, const StepInfo& step) const;
  Tensor backward_block(Context& context, size_t part, size_t block, const Tensor& dy);
  /// The blocks below the top one; `next(i)` comes before the i-th gradient's turn in each.
  template <class Next>
  void backward_blocks(Context& context, std::vector<Tensor> gradients, const Next& next);
  void announce(Block& block);

  Options options_;
  std::unique_ptr<ConvOps> ops_;
  std::vector<Part> parts_;
  size_t first_trainable_ = 0;  // the parts below are frozen: nothing is saved in them, and no gradient reaches them
  int64_t parameters_ = 0;
};

}  // namespace plsc
