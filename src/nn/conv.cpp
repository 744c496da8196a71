#include "nn/conv.h"

#include <algorithm>

namespace plsc {

ConvOp& ConvOps::get(Context& context, const ConvSpec& spec) {
  use_batch(spec.batch);
  for (Entry& e : entries_) {
    if (e.spec == spec) return *e.op;
  }
  entries_.push_back({spec, context.nn().make_conv(spec)});
  return *entries_.back().op;
}

void ConvOps::use_batch(int64_t batch) {
  if (!batches_.empty() && batches_.front() == batch) return;
  std::erase(batches_, batch);
  batches_.insert(batches_.begin(), batch);
  if (batches_.size() <= kBatchSizes) return;
  const int64_t oldest = batches_.back();
  batches_.pop_back();
  std::erase_if(entries_, [oldest](const Entry& e) { return e.spec.batch == oldest; });
}

Conv::Conv(Device& device, ConvOps& ops, const std::string& name, const ConvShape& shape)
    : ops_(ops),
      shape_(shape),
      weight_(
          make_param(device, name + ".weight", {shape.out, shape.in, shape.kernel, shape.kernel}, ParamKind::weight)) {}

Tensor Conv::forward(Context& context, const Tensor& x, const Pass& pass) {
  PLSC_CHECK(x.shape().size() == 4 && x.dim(3) == shape_.in, "{} of {}", weight_.name, x.shape().text());
  ConvSpec spec;
  spec.batch = x.dim(0);
  spec.height = x.dim(1);
  spec.width = x.dim(2);
  spec.in_channels = shape_.in;
  spec.out_channels = shape_.out;
  spec.kernel = shape_.kernel;
  spec.stride = shape_.stride;
  spec.pad = shape_.pad;
  spec.dtype = x.dtype();
  spec.fixed_order = context.sums_in_double;
  Tensor y = context.device().tensor({spec.batch, spec.out_height(), spec.out_width(), spec.out_channels}, x.dtype());
  ops_.get(context, spec).forward(x, weight_.value, y);
  if (pass.saves()) {
    saved_->spec = spec;
    if (weight_.trainable()) saved_->x = x;
  }
  return y;
}

Tensor Conv::backward(Context& context, const Tensor& dy, bool want_dx) {
  const ConvSpec& spec = saved_->spec;
  ConvOp& op = ops_.get(context, spec);
  if (weight_.trainable()) {
    PLSC_CHECK(saved_->x.defined(), "{}: backward without forward", weight_.name);
    const GradSlot slot = grad_slot(context, weight_);
    op.backward_weight(saved_->x, dy, slot.grad, slot.accumulate);
    saved_->x = {};
  }
  if (!want_dx) return {};
  Tensor dx = context.device().tensor({spec.batch, spec.height, spec.width, spec.in_channels}, spec.dtype);
  op.backward_data(dy, weight_.value, dx);
  return dx;
}

}  // namespace plsc
