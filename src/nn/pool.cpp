#include "nn/pool.h"

namespace plsc {

PoolOp& Pool::op(Context& context, const PoolSpec& spec) {
  return saved_->ops.get(spec, [&](const PoolSpec& s) { return context.nn().make_pool(s); });
}

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
  Tensor y = context.device().tensor({spec.batch, spec.out_height(), spec.out_width(), spec.channels}, x.dtype());
  op(context, spec).forward(x, y);
  saved_->spec = spec;
  return y;
}

Tensor Pool::backward(Context& context, const Tensor& dy) {
  const PoolSpec spec = saved_->spec;
  PLSC_CHECK(spec.batch > 0, "pool: backward without forward");
  Tensor dx = context.device().tensor({spec.batch, spec.height, spec.width, spec.channels}, dy.dtype());
  op(context, spec).backward(dy, dx);
  return dx;
}

Tensor Dropout::forward(Context& context, const Tensor& x, const Pass& pass) {
  if (p_ <= 0 || !pass.train()) return x;
  return apply(context, x);
}

Tensor Dropout::backward(Context& context, const Tensor& dy) { return p_ <= 0 ? dy : apply(context, dy); }

Tensor Dropout::apply(Context& context, const Tensor& x) const {
  NnOps::Dropout args;
  args.x = x;
  args.y = context.device().tensor(x.shape(), x.dtype());
  args.p = p_;
  args.seed = context.seed;
  context.nn().dropout(args);
  return args.y;
}

}  // namespace plsc
