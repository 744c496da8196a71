#include "nn/stem_tail.h"

namespace plsc {

std::unique_ptr<Stem> Stem::prelu(const BlockFactory& make, int64_t channels, int64_t width) {
  std::unique_ptr<Stem> stem(
      new Stem(ConvNorm{make.conv("conv1", {channels, width, 3, 1, 1}), make.norm("bn1", width)}));
  stem->slope_ = make.slope("prelu", width);
  return stem;
}

std::unique_ptr<Stem> Stem::torchvision(const BlockFactory& make, int64_t channels, int64_t width) {
  std::unique_ptr<Stem> stem(
      new Stem(ConvNorm{make.conv("conv1", {channels, width, 7, 2, 3}), make.norm("bn1", width)}));
  stem->pool_.emplace(PoolSpec::Kind::max);
  return stem;
}

Tensor Stem::forward(Context& context, const Tensor& x, const Pass& pass) {
  BatchNorm::Fused fused;
  fused.activation = slope_ ? Activation::prelu : Activation::relu;
  fused.slope = slope_ ? &*slope_ : nullptr;
  const Tensor y = layer_.norm.forward(context, layer_.conv.forward(context, x, pass), pass, fused);
  return pool_ ? pool_->forward(context, y) : y;
}

Tensor Stem::backward(Context& context, const Tensor& dy, bool want_dx) {
  Tensor d = pool_ ? pool_->backward(context, dy) : dy;
  d = layer_.norm.backward(context, d);
  return layer_.conv.backward(context, d, want_dx);
}

void Stem::visit(ParamVisitor& visitor) {
  layer_.visit(visitor);
  if (slope_) visitor.param(*slope_);
  if (pool_) pool_->visit(visitor);
}

IrTail::IrTail(const BlockFactory& make, const Options& options)
    : norm_(make.norm("bn2", options.channels)),
      dropout_(options.dropout),
      linear_(make.device, "fc", options.features, options.embedding_size),
      features_(make.norm("features", options.embedding_size, options.fixed_scale)) {}

Tensor IrTail::forward(Context& context, const Tensor& x, const Pass& pass) {
  BatchNorm::Fused fused;
  fused.fp32_output = true;
  Tensor y = norm_.forward(context, x, pass, fused);
  y = dropout_.forward(context, y, pass);
  y = linear_.forward(context, y, pass);
  return features_.forward(context, y, pass);
}

Tensor IrTail::backward(Context& context, const Tensor& dy, bool want_dx) {
  Tensor d = features_.backward(context, dy);
  d = linear_.backward(context, d);
  d = dropout_.backward(context, d);
  BatchNorm::Want want;
  want.dx = want_dx;
  return norm_.backward(context, d, want).dx;
}

void IrTail::visit(ParamVisitor& visitor) {
  norm_.visit(visitor);
  linear_.visit(visitor);
  features_.visit(visitor);
}

PooledTail::PooledTail(const BlockFactory& make, int64_t channels, int64_t embedding_size, float dropout)
    : pool_(PoolSpec::Kind::average), dropout_(dropout), linear_(make.device, "fc", channels, embedding_size) {}

Tensor PooledTail::forward(Context& context, const Tensor& x, const Pass& pass) {
  Tensor pooled = pool_.forward(context, x);
  pooled_dtype_ = pooled.dtype();
  pooled = pooled.reshape({pooled.dim(0), pooled.dim(3)});
  Tensor features = pooled;
  if (pooled.dtype() != Dtype::f32) {
    features = context.device().tensor(pooled.shape());
    context.nn().cast(pooled, features);
  }
  return linear_.forward(context, dropout_.forward(context, features, pass), pass);
}

Tensor PooledTail::backward(Context& context, const Tensor& dy, bool want_dx) {
  Tensor d = linear_.backward(context, dy, want_dx);
  if (!want_dx) return {};
  d = dropout_.backward(context, d);
  if (pooled_dtype_ != Dtype::f32) {
    Tensor narrow = context.device().tensor(d.shape(), pooled_dtype_);
    context.nn().cast(d, narrow);
    d = narrow;
  }
  return pool_.backward(context, d.reshape({d.dim(0), 1, 1, d.dim(1)}));
}

}  // namespace plsc
