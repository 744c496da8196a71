#include "nn/pool.h"

#include <algorithm>

namespace plsc {

Tensor Pool::forward(Context& context, const Tensor& x) {
  PoolSpec spec;
  spec.kind = kind_;
  spec.batch = x.dim(0);
  spec.height = x.dim(1);
  spec.width = x.dim(2);
  spec.channels = x.dim(3);
  spec.dtype = x.dtype();
  if (kind_ == PoolSpec::Kind::average) {
    spec.kernel_h = spec.height;
    spec.kernel_w = spec.width;
    spec.stride = 1;
    spec.pad = 0;
  }
  const auto found =
      std::find_if(prepared_.begin(), prepared_.end(), [&](const Prepared& p) { return p.spec == spec; });
  if (found != prepared_.end()) {
    std::rotate(prepared_.begin(), found, found + 1);
  } else {
    if (prepared_.size() == kPrepared) prepared_.pop_back();
    prepared_.insert(prepared_.begin(), Prepared{spec, context.nn().make_pool(spec)});
  }
  Tensor y = context.device().tensor({spec.batch, spec.out_height(), spec.out_width(), spec.channels}, x.dtype());
  prepared_.front().op->forward(x, y);
  return y;
}

Tensor Pool::backward(Context& context, const Tensor& dy) {
  PLSC_CHECK(!prepared_.empty(), "pool: backward without forward");
  const PoolSpec& spec = prepared_.front().spec;
  Tensor dx = context.device().tensor({spec.batch, spec.height, spec.width, spec.channels}, dy.dtype());
  prepared_.front().op->backward(dy, dx);
  return dx;
}

Tensor Dropout::forward(Context& context, const Tensor& x, const Pass& pass) {
  if (p_ <= 0 || !pass.train()) return x;
  step_ = pass.step;
  return apply(context, x);
}

Tensor Dropout::backward(Context& context, const Tensor& dy) { return p_ <= 0 ? dy : apply(context, dy); }

Tensor Dropout::apply(Context& context, const Tensor& x) const {
  NnOps::Dropout args;
  args.x = x;
  args.y = context.device().tensor(x.shape(), x.dtype());
  args.p = p_;
  args.seed = context.seed;
  args.step = step_.step;
  args.first_sample = step_.first_sample;
  context.nn().dropout(args);
  return args.y;
}

}  // namespace plsc
