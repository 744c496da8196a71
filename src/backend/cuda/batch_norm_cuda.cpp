// Batch norm's ops check the tensors and hand them to kernels/cuda/batch_norm.h, which does the arithmetic.
#include "backend/cuda/batch_norm_cuda.h"

#include <algorithm>

#include "backend/cuda/kernel_types.h"
#include "kernels/cuda/batch_norm.h"
#include "kernels/cuda/batch_norm_running.h"

namespace plsc {
namespace {

using kernels::cuda::NormActivation;
using kernels::cuda::NormGradient;
using kernels::cuda::NormShape;

NormShape shape_of(const Tensor& x) {
  PLSC_CHECK(x.defined() && !x.on_host(), "batch norm of {} in host memory", x.shape().text());
  const int64_t channels = x.dim(x.shape().size() - 1);
  const NormShape shape{x.elements() / std::max<int64_t>(channels, 1), channels};
  PLSC_CHECK(shape.rows > 0 && channels > 0, "batch norm of {}", x.shape().text());
  return shape;
}

Tensor scratch_for(CudaRuntime& runtime, const NormShape& shape) {
  return runtime.device.tensor({kernels::cuda::norm_scratch(shape)}, Dtype::f64);
}

NormActivation kernel_activation(Activation activation) {
  switch (activation) {
    case Activation::none:
      return NormActivation::none;
    case Activation::relu:
      return NormActivation::relu;
    case Activation::prelu:
      return NormActivation::prelu;
  }
  return NormActivation::none;
}

/// body(type of x, type of y) for the combinations that exist.
template <class Body>
void with_types(Dtype x, Dtype y, const Body& body) {
  if (x == y) return with_activation_type(x, [&]<class T>(T) { body(T{}, T{}); });
  if (x == Dtype::bf16 && y == Dtype::f32) return body(__nv_bfloat16{}, float{});
  if (x == Dtype::f16 && y == Dtype::f32) return body(__half{}, float{});
  PLSC_CHECK(false, "batch norm from {} to {}", dtype_name(x), dtype_name(y));
}

NormShape check_apply(const BatchNormApply& a) {
  const NormShape shape = shape_of(a.x);
  const int64_t channels = shape.channels;
  check_device_tensor("batch norm mean and rstd", a.mean_rstd, {2, channels}, Dtype::f32);
  if (a.gamma.defined()) check_device_tensor("batch norm gamma", a.gamma, {channels}, Dtype::f32);
  if (a.beta.defined()) check_device_tensor("batch norm beta", a.beta, {channels}, Dtype::f32);
  if (a.residual.defined()) check_device_tensor("batch norm residual", a.residual, a.x.shape(), a.x.dtype());
  if (a.activation == Activation::prelu) {
    PLSC_CHECK(a.slope.defined() && (a.slope.elements() == channels || a.slope.elements() == 1),
               "PReLU slope {} for {} channels", a.slope.shape().text(), channels);
    check_device_tensor("PReLU slope", a.slope, a.slope.shape(), Dtype::f32);
  }
  return shape;
}

NormShape check_backward(const BatchNormBackward& b) {
  const BatchNormApply& a = b.forward;
  const NormShape shape = check_apply(a);
  check_device_tensor("batch norm dy", b.dy, a.x.shape(), b.dy.dtype());
  if (a.activation == Activation::relu && a.residual.defined()) {
    check_device_tensor("batch norm y", a.y, a.x.shape(), b.dy.dtype());
  }
  return shape;
}

kernels::cuda::NormParameters parameters_of(const BatchNormApply& a) {
  kernels::cuda::NormParameters p;
  p.mean_rstd = a.mean_rstd.data<float>();
  p.gamma = elements<float>(a.gamma);
  p.beta = elements<float>(a.beta);
  if (a.activation == Activation::prelu) {
    p.slope = a.slope.data<float>();
    p.shared_slope = a.slope.elements() == 1;
  }
  return p;
}

/// Only what the activation's gradient depends on is handed over, and so read.
template <class T, class Y>
NormGradient<T, Y> gradient_of(const BatchNormBackward& b, const NormShape& shape) {
  const BatchNormApply& a = b.forward;
  NormGradient<T, Y> g;
  g.shape = shape;
  g.parameters = parameters_of(a);
  g.activation = kernel_activation(a.activation);
  g.x = elements<T>(a.x);
  if (a.activation == Activation::prelu) g.residual = elements<T>(a.residual);
  if (a.activation == Activation::relu && a.residual.defined()) g.y = elements<Y>(a.y);
  g.dy = elements<Y>(b.dy);
  return g;
}

}  // namespace

void cuda_batch_norm_stats(CudaRuntime& runtime, const Tensor& x, Tensor& sums) {
  const NormShape shape = shape_of(x);
  check_device_tensor("batch norm statistics", sums, {2, shape.channels}, Dtype::f64);
  const Tensor scratch = scratch_for(runtime, shape);
  with_activation_type(x.dtype(), [&]<class T>(T) {
    kernels::cuda::column_sums(shape, elements<T>(x), scratch.data<double>(), sums.data<double>(), runtime.stream);
  });
}

void cuda_batch_norm_merge(CudaRuntime& runtime, const Tensor& gathered, float eps, Tensor& mean_rstd) {
  PLSC_CHECK(gathered.shape().size() == 2 && gathered.dim(1) % 2 == 1, "{}", gathered.shape().text());
  const int64_t ranks = gathered.dim(0), channels = (gathered.dim(1) - 1) / 2;
  check_device_tensor("gathered batch norm statistics", gathered, {ranks, 2 * channels + 1}, Dtype::f64);
  check_device_tensor("batch norm mean and rstd", mean_rstd, {2, channels}, Dtype::f32);
  kernels::cuda::norm_merge({gathered.data<double>(), ranks, channels, eps, mean_rstd.data<float>()}, runtime.stream);
}

void cuda_batch_norm_constants(CudaRuntime& runtime, const NormStatistics& constants, float eps, Tensor& mean_rstd) {
  const int64_t channels = constants.mean.elements();
  check_device_tensor("batch norm mean", constants.mean, {channels}, Dtype::f32);
  check_device_tensor("batch norm variance", constants.variance, {channels}, Dtype::f32);
  check_device_tensor("batch norm mean and rstd", mean_rstd, {2, channels}, Dtype::f32);
  kernels::cuda::norm_constants(
      {constants.mean.data<float>(), constants.variance.data<float>(), channels, eps, mean_rstd.data<float>()},
      runtime.stream);
}

void cuda_batch_norm_fold(CudaRuntime& runtime, const NormFolding& how, const Tensor& sums,
                          const NormStatistics& running) {
  const int64_t channels = running.mean.elements();
  check_device_tensor("batch norm sums", sums, {2 * channels + 1}, Dtype::f64);
  check_device_tensor("running mean", running.mean, {channels}, Dtype::f32);
  check_device_tensor("running variance", running.variance, {channels}, Dtype::f32);
  kernels::cuda::norm_fold({how.state, sums.data<double>(), channels, how.momentum, running.mean.data<float>(),
                            running.variance.data<float>()},
                           runtime.stream);
}

void cuda_batch_norm_apply(CudaRuntime& runtime, const BatchNormApply& a) {
  const NormShape shape = check_apply(a);
  check_device_tensor("batch norm y", a.y, a.x.shape(), a.y.dtype());
  Tensor scratch;
  if (a.sums.defined()) {
    check_device_tensor("statistics of a batch norm's output", a.sums, {2, shape.channels}, Dtype::f64);
    scratch = scratch_for(runtime, shape);
  }
  with_types(a.x.dtype(), a.y.dtype(), [&]<class T, class Y>(T, Y) {
    kernels::cuda::NormForward<T, Y> k;
    k.shape = shape;
    k.parameters = parameters_of(a);
    k.activation = kernel_activation(a.activation);
    k.x = elements<T>(a.x);
    k.residual = elements<T>(a.residual);
    k.y = elements<Y>(a.y);
    k.sums = elements<double>(a.sums);
    k.scratch = elements<double>(scratch);
    kernels::cuda::norm_forward(k, runtime.stream);
  });
}

void cuda_batch_norm_backward_sums(CudaRuntime& runtime, const BatchNormBackward& b) {
  const NormShape shape = check_backward(b);
  check_device_tensor("batch norm sums", b.sums, {2, shape.channels}, Dtype::f64);
  const bool with_slope = b.dslope.defined() && b.forward.activation == Activation::prelu;
  if (with_slope) check_device_tensor("PReLU slope gradient", b.dslope, b.forward.slope.shape(), Dtype::f64);
  const Tensor scratch = scratch_for(runtime, shape);
  with_types(b.forward.x.dtype(), b.dy.dtype(), [&]<class T, class Y>(T, Y) {
    kernels::cuda::norm_backward_sums(
        gradient_of<T, Y>(b, shape),
        {b.sums.data<double>(), with_slope ? b.dslope.data<double>() : nullptr, scratch.data<double>()},
        runtime.stream);
  });
}

void cuda_batch_norm_backward_apply(CudaRuntime& runtime, const BatchNormBackward& b) {
  const NormShape shape = check_backward(b);
  const Tensor& x = b.forward.x;
  check_device_tensor("batch norm dx", b.dx, x.shape(), x.dtype());
  if (b.add.defined()) check_device_tensor("batch norm added gradient", b.add, x.shape(), x.dtype());
  if (b.dresidual.defined()) check_device_tensor("batch norm dresidual", b.dresidual, x.shape(), x.dtype());
  // Constant statistics (count 0) have no gradient of their own; the sums may then be unwritten.
  if (b.count > 0) check_device_tensor("batch norm sums", b.sums, {2, shape.channels}, Dtype::f64);
  with_types(x.dtype(), b.dy.dtype(), [&]<class T, class Y>(T, Y) {
    kernels::cuda::NormOutputs<T> out;
    out.sums = b.count > 0 ? b.sums.data<double>() : nullptr;
    out.count = b.count;
    out.add = elements<T>(b.add);
    out.dx = elements<T>(b.dx);
    out.dresidual = elements<T>(b.dresidual);
    kernels::cuda::norm_backward(gradient_of<T, Y>(b, shape), out, runtime.stream);
  });
}

}  // namespace plsc
