#include "nn/recompute.h"

#include <utility>

namespace plsc {

Tensor Recomputed::forward(Context& context, const Tensor& x, const Pass& pass) {
  if (!pass.train()) return block_->forward(context, x, pass);
  *saved_ = {x, pass};
  saved_->pass.turn = Turn::first;
  return block_->forward(context, x, saved_->pass);
}

Tensor Recomputed::backward(Context& context, const Tensor& dy, bool want_dx) {
  PLSC_CHECK(saved_->x.defined(), "a block to be computed again: backward without forward");
  saved_->pass.turn = Turn::again;
  block_->repeat(context, std::exchange(saved_->x, {}), saved_->pass);
  return block_->backward(context, dy, want_dx);
}

}  // namespace plsc
