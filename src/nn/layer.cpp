#include "nn/layer.h"

#include <algorithm>

namespace plsc {

Tensor filled(Device& device, Shape shape, float value) {
  Tensor host(host_allocator(), shape, Dtype::f32);
  const auto elements = host.span<float>();
  std::fill(elements.begin(), elements.end(), value);
  if (device.is_host()) return host;
  Tensor t = device.tensor(shape);
  device.copy(host, t);
  return t;
}

Param make_param(Device& device, const std::string& name, Shape shape, ParamKind kind, float value) {
  Param p;
  p.name = name;
  p.kind = kind;
  p.value = filled(device, shape, value);
  return p;
}

GradSlot grad_slot(Context& context, Param& param) {
  PLSC_CHECK(param.trainable(), "{} has no gradient", param.name);
  if (!param.grad.defined()) {
    param.grad = context.device().tensor(param.value.shape());
    param.grad_stale = true;
  }
  const bool accumulate = !param.grad_stale;
  param.grad_stale = false;
  return {param.grad, accumulate};
}

void add_gradient(Context& context, Param& param, const Tensor& gradient) {
  if (!param.trainable()) return;
  const GradSlot slot = grad_slot(context, param);
  if (slot.accumulate) {
    context.nn().add(gradient, slot.grad);
  } else if (gradient.dtype() == slot.grad.dtype()) {
    context.device().copy(gradient, slot.grad);
  } else {
    context.nn().cast(gradient, slot.grad);
  }
}

bool all_frozen(std::initializer_list<const Param*> params) {
  return std::all_of(params.begin(), params.end(), [](const Param* p) { return p->frozen; });
}

}  // namespace plsc
