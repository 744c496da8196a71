// The linear layer as plain matrix products on the weight as the user keeps it. Behind a feature map the few
// activations are brought to the weight's order of columns, not the weight to theirs.
#include "backend/cuda/linear_cuda.h"

#include "backend/cuda/gemm.h"
#include "kernels/cuda/layout.h"

namespace plsc {
namespace {

class CudaLinear final : public LinearOp {
 public:
  CudaLinear(CudaRuntime& runtime, const LinearSpec& spec)
      : runtime_(runtime),
        spec_(spec),
        pixels_(spec.height * spec.width),
        in_(spec.channels * pixels_),
        in_order_(pixels_ == 1 || spec.channels == 1) {}

  void forward(const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) override {
    check_operands(x, w, y);
    if (spec_.bias) check_device_tensor("bias", bias, {spec_.out_features}, Dtype::f32);
    const Tensor rows = to_rows(x);
    runtime_.gemms->run({.m = spec_.batch, .n = spec_.out_features, .k = in_, .transpose_b = true},
                        {.a = rows.raw(), .b = w.raw(), .c = y.raw()});
    if (spec_.bias) {
      kernels::cuda::add_bias(bias.data<float>(), spec_.batch, spec_.out_features, y.data<float>(), runtime_.stream);
    }
  }

  void backward_data(const Tensor& dy, const Tensor& w, Tensor& dx) override {
    check_operands(dx, w, dy);
    const Tensor rows = in_order_ ? dx : scratch({spec_.batch, in_});
    runtime_.gemms->run({.m = spec_.batch, .n = in_, .k = spec_.out_features},
                        {.a = dy.raw(), .b = w.raw(), .c = rows.raw()});
    if (in_order_) return;
    kernels::cuda::transpose({spec_.batch, spec_.channels, pixels_}, rows.data<float>(), dx.data<float>(), false,
                             runtime_.stream);
  }

  void backward_weight(const Tensor& x, const Tensor& dy, Tensor& dweight, Tensor& dbias, bool accumulate) override {
    check_operands(x, dweight, dy);
    const Tensor rows = to_rows(x);
    runtime_.gemms->run({.m = spec_.out_features, .n = in_, .k = spec_.batch, .transpose_a = true},
                        {.a = dy.raw(), .b = rows.raw(), .c = dweight.raw(), .beta = accumulate ? 1.0f : 0.0f});
    if (spec_.bias) bias_gradient(dy, dbias, accumulate);
  }

 private:
  void bias_gradient(const Tensor& dy, Tensor& dbias, bool accumulate) const {
    check_device_tensor("bias gradient", dbias, {spec_.out_features}, Dtype::f32);
    const int64_t doubles = kernels::cuda::bias_gradient_scratch(spec_.batch, spec_.out_features);
    const Tensor sums = scratch({doubles}, Dtype::f64);
    kernels::cuda::bias_gradient(
        {dy.data<float>(), spec_.batch, spec_.out_features, sums.data<double>(), dbias.data<float>(), accumulate},
        runtime_.stream);
  }

  Tensor scratch(const Shape& shape, Dtype dtype = Dtype::f32) const {
    const MemoryScope use(runtime_.device, MemoryUse::workspace);
    return runtime_.device.tensor(shape, dtype);
  }
  /// x with its features in the order of the weight's columns.
  Tensor to_rows(const Tensor& x) const {
    if (in_order_) return x;
    const Tensor rows = scratch({spec_.batch, in_});
    kernels::cuda::transpose({spec_.batch, pixels_, spec_.channels}, x.data<float>(), rows.data<float>(), false,
                             runtime_.stream);
    return rows;
  }

  /// x may be (N, C) where there is one pixel; w is (O, C*H*W) or (O, C, H, W): the same memory.
  void check_operands(const Tensor& x, const Tensor& w, const Tensor& y) const {
    PLSC_CHECK(w.dtype() != Dtype::f64, "a linear layer's gradients in fp64 are not offered on CUDA");
    const auto holds = [](const Tensor& t, int64_t elements) {
      return t.defined() && !t.on_host() && t.dtype() == Dtype::f32 && t.elements() == elements;
    };
    PLSC_CHECK(holds(x, spec_.batch * in_), "linear input {} of {}, expected {} x {} of f32 on the device",
               dtype_name(x.dtype()), x.shape().text(), spec_.batch, in_);
    PLSC_CHECK(holds(w, spec_.out_features * in_), "linear weight {} of {}, expected {} x {} of f32 on the device",
               dtype_name(w.dtype()), w.shape().text(), spec_.out_features, in_);
    check_device_tensor("linear output", y, {spec_.batch, spec_.out_features}, Dtype::f32);
  }

  CudaRuntime& runtime_;
  LinearSpec spec_;
  int64_t pixels_, in_;
  bool in_order_;  // (H, W, C) and (C, H, W) are the same order
};

}  // namespace

std::unique_ptr<LinearOp> make_cuda_linear(CudaRuntime& runtime, const LinearSpec& spec) {
  PLSC_CHECK(spec.batch > 0 && spec.height > 0 && spec.width > 0 && spec.channels > 0 && spec.out_features > 0,
             "linear layer of ({}, {}, {}, {}) to {}", spec.batch, spec.height, spec.width, spec.channels,
             spec.out_features);
  PLSC_CHECK(!spec.fixed_order, "a linear layer with a fixed order of sums is not offered on CUDA");
  return std::make_unique<CudaLinear>(runtime, spec);
}

}  // namespace plsc
