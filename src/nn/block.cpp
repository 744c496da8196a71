#include "nn/block.h"

namespace plsc {
namespace {

/// The projection of the residual path, where the shapes of x and of the block's output differ.
std::optional<ConvNorm> make_downsample(const BlockFactory& make, const std::string& name, const BlockShape& shape,
                                        int64_t out) {
  if (shape.stride == 1 && shape.in == out) return std::nullopt;
  return ConvNorm{make.conv(name + ".downsample.0", {shape.in, out, 1, shape.stride, 0}),
                  make.norm(name + ".downsample.1", out)};
}

/// Mean 0, rstd 1: (2, C).
Tensor identity_statistics(Device& device, int64_t channels) {
  Tensor t = device.tensor({2, channels}), mean = t.rows(0, 1), rstd = t.rows(1, 1);
  device.copy(filled(device, {1, channels}, 0), mean);
  device.copy(filled(device, {1, channels}, 1), rstd);
  return t;
}

Tensor residual_forward(Context& context, std::optional<ConvNorm>& downsample, const Tensor& x, const Pass& pass) {
  if (!downsample) return x;
  return downsample->norm.forward(context, downsample->conv.forward(context, x, pass), pass);
}

Tensor residual_backward(Context& context, std::optional<ConvNorm>& downsample, const Tensor& dy, bool want_dx) {
  if (!downsample) return dy;
  return downsample->conv.backward(context, downsample->norm.backward(context, dy), want_dx);
}

}  // namespace

IrBlock::IrBlock(const BlockFactory& make, const std::string& name, const BlockShape& shape)
    : norm1_(make.norm(name + ".bn1", shape.in)),
      conv1_(make.conv(name + ".conv1", {shape.in, shape.width, 3, 1, 1})),
      norm2_(make.norm(name + ".bn2", shape.width)),
      slope_(make.slope(name + ".prelu", shape.width)),
      conv2_(make.conv(name + ".conv2", {shape.width, shape.width, 3, shape.stride, 1})),
      norm3_(make.norm(name + ".bn3", shape.width)),
      downsample_(make_downsample(make, name, shape, shape.width)) {}

Tensor IrBlock::forward(Context& context, const Tensor& x, const Pass& pass) {
  BatchNorm::Fused sum;
  sum.residual = residual_forward(context, downsample_, x, pass);
  return norm3_.forward(context, inside(context, x, pass), pass, sum);
}

Tensor IrBlock::inside(Context& context, const Tensor& x, const Pass& pass) {
  BatchNorm::Fused activation;
  activation.activation = Activation::prelu;
  activation.slope = &slope_;
  Tensor y = norm1_.forward(context, x, pass);
  y = conv1_.forward(context, y, pass);
  y = norm2_.forward(context, y, pass, activation);
  return conv2_.forward(context, y, pass);
}

void IrBlock::repeat(Context& context, const Tensor& x, const Pass& pass) {
  if (downsample_) downsample_->repeat(context, x, pass);
  norm3_.restore(inside(context, x, pass));
}

Tensor IrBlock::backward(Context& context, const Tensor& dy, bool want_dx) {
  Tensor d = norm3_.backward(context, dy);
  d = conv2_.backward(context, d);
  d = norm2_.backward(context, d);
  d = conv1_.backward(context, d);
  BatchNorm::Want want;
  want.add = residual_backward(context, downsample_, dy, want_dx);
  want.dx = want_dx;
  return norm1_.backward(context, d, want).dx;
}

void IrBlock::visit(ParamVisitor& visitor) {
  norm1_.visit(visitor);
  conv1_.visit(visitor);
  norm2_.visit(visitor);
  visitor.param(slope_);
  conv2_.visit(visitor);
  norm3_.visit(visitor);
  if (downsample_) downsample_->visit(visitor);
}

ResidualBlock::ResidualBlock(const BlockFactory& make, const std::string& name, const BlockShape& shape,
                             bool bottleneck)
    : downsample_(make_downsample(make, name, shape, bottleneck ? shape.width * kExpansion : shape.width)),
      identity_(identity_statistics(make.device, shape.in)) {
  const int64_t out = bottleneck ? shape.width * kExpansion : shape.width;
  std::vector<ConvShape> convs;
  if (bottleneck) {
    convs = {
        {shape.in, shape.width, 1, 1, 0}, {shape.width, shape.width, 3, shape.stride, 1}, {shape.width, out, 1, 1, 0}};
  } else {
    convs = {{shape.in, shape.width, 3, shape.stride, 1}, {shape.width, out, 3, 1, 1}};
  }
  for (size_t i = 0; i < convs.size(); ++i) {
    const std::string number = std::to_string(i + 1);
    layers_.push_back({make.conv(name + ".conv" + number, convs[i]), make.norm(name + ".bn" + number, convs[i].out)});
  }
}

Tensor ResidualBlock::forward(Context& context, const Tensor& x, const Pass& pass) {
  BatchNorm::Fused sum;
  sum.activation = Activation::relu;
  sum.residual = residual_forward(context, downsample_, x, pass);
  return layers_.back().norm.forward(context, inside(context, x, pass), pass, sum);
}

Tensor ResidualBlock::inside(Context& context, const Tensor& x, const Pass& pass) {
  BatchNorm::Fused activation;
  activation.activation = Activation::relu;
  Tensor y = x;
  for (size_t i = 0; i + 1 < layers_.size(); ++i)
    y = layers_[i].norm.forward(context, layers_[i].conv.forward(context, y, pass), pass, activation);
  return layers_.back().conv.forward(context, y, pass);
}

void ResidualBlock::repeat(Context& context, const Tensor& x, const Pass& pass) {
  if (downsample_) downsample_->repeat(context, x, pass);
  layers_.back().norm.restore(inside(context, x, pass));
}

Tensor ResidualBlock::backward(Context& context, const Tensor& dy, bool want_dx) {
  BatchNorm::Want want;
  want.dresidual = true;
  const BatchNorm::Gradients last = layers_.back().norm.backward(context, dy, want);
  Tensor d = last.dx;
  for (size_t i = layers_.size(); i-- > 0;) {
    if (i + 1 < layers_.size()) d = layers_[i].norm.backward(context, d);
    d = layers_[i].conv.backward(context, d, want_dx || i > 0);
  }
  const Tensor dresidual = residual_backward(context, downsample_, last.dresidual, want_dx);
  if (!want_dx) return {};
  return sum(context, d, dresidual);
}

Tensor ResidualBlock::sum(Context& context, const Tensor& a, const Tensor& b) const {
  if (a.dtype() == Dtype::f32) {
    Tensor total = a;
    context.nn().add(b, total);
    return total;
  }
  BatchNormApply args;  // 16-bit tensors: the pass of a batch norm that changes nothing, with its residual
  args.x = a;
  args.residual = b;
  args.mean_rstd = identity_;
  args.y = context.device().tensor(a.shape(), a.dtype());
  context.nn().batch_norm_apply(args);
  return args.y;
}

void ResidualBlock::visit(ParamVisitor& visitor) {
  for (ConvNorm& layer : layers_) layer.visit(visitor);
  if (downsample_) downsample_->visit(visitor);
}

}  // namespace plsc
