// Activation recomputation: memory for time. Of a block its input alone is kept between its passes, and its backward
// pass begins by running it forward again (Chen et al., "Training deep nets with sublinear memory cost", 2016, with a
// block as the segment). Each value is computed by the same op from the same bits, with the statistics that batch norms
// found in the first pass: so results are those without it to the last bit where ops repeat theirs (on a GPU
// train.deterministic sees to that), and the ranks exchange nothing for it.
#pragma once
#include <memory>

#include "nn/block.h"

namespace plsc {

class Recomputed final : public Block {
 public:
  explicit Recomputed(std::unique_ptr<RepeatableBlock> block) : block_(std::move(block)) {}

  Tensor forward(Context& context, const Tensor& x, const Pass& pass) override;
  Tensor backward(Context& context, const Tensor& dy, bool want_dx) override;
  void visit(ParamVisitor& visitor) override {
    visitor.saved(saved_);
    block_->visit(visitor);
  }
  BatchNorm* input_norm() override { return block_->input_norm(); }
  void feed(BatchNorm& next) override { block_->feed(next); }

 private:
  std::unique_ptr<RepeatableBlock> block_;
  struct Kept {
    Tensor x;   // of the last forward pass in train mode,
    Pass pass;  // as which it is repeated
  };
  Saved<Kept> saved_;
};

}  // namespace plsc
