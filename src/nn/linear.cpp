#include "nn/linear.h"

namespace plsc {

Linear::Linear(Device& device, const std::string& name, int64_t in, int64_t out)
    : weight_(make_param(device, name + ".weight", {out, in}, ParamKind::weight)),
      bias_(make_param(device, name + ".bias", {out}, ParamKind::bias)) {}

void Linear::visit(ParamVisitor& visitor) {
  visitor.param(weight_);
  visitor.param(bias_);
  visitor.saved(saved_);
}

LinearOp& Linear::op(Context& context, const LinearSpec& spec) {
  return ops_.get(spec, [&](const LinearSpec& s) { return context.nn().make_linear(s); });
}

Tensor Linear::forward(Context& context, const Tensor& x, const Pass& pass) {
  LinearSpec spec;
  spec.batch = x.dim(0);
  if (x.shape().size() == 4) {
    spec.height = x.dim(1);
    spec.width = x.dim(2);
  }
  spec.channels = x.dim(x.shape().size() - 1);
  spec.out_features = weight_.value.dim(0);
  spec.fixed_order = context.sums_in_double;
  PLSC_CHECK(x.elements() == spec.batch * weight_.value.dim(1), "{} of {}", weight_.name, x.shape().text());
  Tensor y = context.device().tensor({spec.batch, spec.out_features});
  op(context, spec).forward(x, weight_.value, bias_.value, y);
  if (pass.saves()) {
    *saved_ = {spec, x};
  }
  return y;
}

Tensor Linear::backward(Context& context, const Tensor& dy, bool want_dx) {
  PLSC_CHECK(saved_->x.defined(), "{}: backward without forward", weight_.name);
  backward_params(context, dy);
  const Shape shape = saved_->x.shape();
  saved_->x = {};
  if (!want_dx) return {};
  Tensor dx = context.device().tensor(shape);
  op(context, saved_->spec).backward_data(dy, weight_.value, dx);
  return dx;
}

void Linear::backward_params(Context& context, const Tensor& dy) {
  PLSC_CHECK(weight_.frozen == bias_.frozen, "{} and {} freeze together", weight_.name, bias_.name);
  if (!weight_.trainable()) return;
  const GradSlot weight = grad_slot(context, weight_);
  const GradSlot bias = grad_slot(context, bias_);
  PLSC_CHECK(weight.accumulate == bias.accumulate);
  op(context, saved_->spec).backward_weight(saved_->x, dy, weight.grad, bias.grad, weight.accumulate);
}

}  // namespace plsc
