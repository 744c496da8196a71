#include "nn/recompute.h"

#include <utility>

namespace plsc {

Tensor Recomputed::forward(Context& context, const Tensor& x, const Pass& pass) {
  if (!pass.train()) return block_->forward(context, x, pass);
  pass_ = pass;
  pass_.turn = Turn::first;
  x_ = x;
  return block_->forward(context, x, pass_);
}

Tensor Recomputed::backward(Context& context, const Tensor& dy, bool want_dx) {
  PLSC_CHECK(x_.defined(), "a block to be computed again: backward without forward");
  pass_.turn = Turn::again;
  block_->repeat(context, std::exchange(x_, {}), pass_);
  return block_->backward(context, dy, want_dx);
}

}  // namespace plsc
