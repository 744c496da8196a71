// The 16-bit linear layer by oneDNN's inner product, whose logical order of dimensions (C, H, W) is PyTorch's behind a
// flatten. In fp32 it is linear_gemm.cpp.
#include "backend/cpu/dnnl_exec.h"
#include "backend/cpu/ops_cpu.h"
#include "backend/cpu/parts.h"
#include "kernels/cpu/elementwise.h"

namespace plsc {
namespace {

using dnnl::inner_product_backward_data;
using dnnl::inner_product_backward_weights;
using dnnl::inner_product_forward;

struct Layouts {
  explicit Layouts(const LinearSpec& s)
      : x(dnnl_nhwc({s.batch, s.channels, s.height, s.width}, s.dtype)),
        y({s.batch, s.out_features}, dnnl_type(s.dtype), dnnl::memory::format_tag::nc),
        bias(s.bias ? dnnl::memory::desc({s.out_features}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::x)
                    : dnnl::memory::desc()),
        weight_dims{s.out_features, s.channels, s.height, s.width},
        user_weight(weight_dims, dnnl::memory::data_type::f32, dnnl::memory::format_tag::oihw) {}

  dnnl::memory::desc x, y, bias;
  dnnl::memory::dims weight_dims;
  dnnl::memory::desc user_weight;
};

struct ForwardPass {
  ForwardPass(const DnnlRuntime& r, const Layouts& l, const inner_product_forward::primitive_desc& d)
      : weights(r, l.user_weight, d.weights_desc()),
        primitive(
            r, inner_product_forward(d), d,
            {{DNNL_ARG_SRC, l.x}, {DNNL_ARG_WEIGHTS, d.weights_desc()}, {DNNL_ARG_BIAS, l.bias}, {DNNL_ARG_DST, l.y}}) {
  }
  DnnlWeights weights;
  DnnlPrimitive primitive;
};

struct DataPass {
  DataPass(const DnnlRuntime& r, const Layouts& l, const inner_product_backward_data::primitive_desc& d)
      : weights(r, l.user_weight, d.weights_desc()),
        primitive(r, inner_product_backward_data(d), d,
                  {{DNNL_ARG_DIFF_SRC, l.x}, {DNNL_ARG_WEIGHTS, d.weights_desc()}, {DNNL_ARG_DIFF_DST, l.y}}) {}
  DnnlWeights weights;
  DnnlPrimitive primitive;
};

struct WeightPass {
  WeightPass(const DnnlRuntime& r, const Layouts& l, const inner_product_backward_weights::primitive_desc& d)
      : gradient(r, d.diff_weights_desc(), l.user_weight),
        primitive(r, inner_product_backward_weights(d), d,
                  {{DNNL_ARG_SRC, l.x},
                   {DNNL_ARG_DIFF_WEIGHTS, d.diff_weights_desc()},
                   {DNNL_ARG_DIFF_BIAS, l.bias},
                   {DNNL_ARG_DIFF_DST, l.y}}) {}
  DnnlGradient gradient;
  DnnlPrimitive primitive;
};

class CpuLinear final : public LinearOp {
 public:
  CpuLinear(const DnnlRuntime& runtime, const LinearSpec& spec)
      : runtime_(runtime),
        spec_(spec),
        layouts_(spec),
        desc_(dnnl_shim::linear_forward(runtime.engine, {layouts_.x, weight(spec.dtype), layouts_.y}, layouts_.bias,
                                        dnnl_attributes())),
        forward_(runtime, layouts_, desc_) {}

  void forward(const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) override {
    check(x, w, y);
    if (spec_.bias) check_tensor("bias", bias, {spec_.out_features}, Dtype::f32);
    Tensor hold;
    forward_.primitive.run({{DNNL_ARG_SRC, x.raw()},
                            {DNNL_ARG_WEIGHTS, forward_.weights.prepare(w, hold)},
                            {DNNL_ARG_BIAS, spec_.bias ? bias.raw() : nullptr},
                            {DNNL_ARG_DST, y.raw()}});
  }

  void backward_data(const Tensor& dy, const Tensor& w, Tensor& dx) override {
    check(dx, w, dy);
    if (!data_) {
      data_.emplace(runtime_, layouts_,
                    dnnl_shim::linear_backward_data(runtime_.engine, {layouts_.x, weight(spec_.dtype), layouts_.y},
                                                    dnnl_attributes(), desc_));
    }
    Tensor hold;
    data_->primitive.run({{DNNL_ARG_DIFF_SRC, dx.raw()},
                          {DNNL_ARG_WEIGHTS, data_->weights.prepare(w, hold)},
                          {DNNL_ARG_DIFF_DST, dy.raw()}});
  }

  void backward_weight(const Tensor& x, const Tensor& dy, Tensor& dweight, Tensor& dbias, bool accumulate) override {
    check(x, dweight, dy);
    if (spec_.bias) check_tensor("bias gradient", dbias, {spec_.out_features}, Dtype::f32);
    if (!weight_) {
      weight_.emplace(runtime_, layouts_,
                      dnnl_shim::linear_backward_weights(runtime_.engine, {layouts_.x, weight(Dtype::f32), layouts_.y},
                                                         layouts_.bias, dnnl_attributes(), desc_));
    }
    Tensor hold, bias_hold;
    void* target = weight_->gradient.target(dweight, accumulate, hold);
    if (spec_.bias && accumulate) bias_hold = Tensor(runtime_.allocator, {spec_.out_features}, Dtype::f32);
    void* bias_target = !spec_.bias ? nullptr : accumulate ? bias_hold.raw() : dbias.raw();
    weight_->primitive.run({{DNNL_ARG_SRC, x.raw()},
                            {DNNL_ARG_DIFF_WEIGHTS, target},
                            {DNNL_ARG_DIFF_BIAS, bias_target},
                            {DNNL_ARG_DIFF_DST, dy.raw()}});
    weight_->gradient.finish(target, dweight, accumulate);
    if (spec_.bias && accumulate) kernels::add(bias_hold.data<float>(), dbias.data<float>(), spec_.out_features);
  }

 private:
  dnnl::memory::desc weight(Dtype dtype) const { return dnnl_any(layouts_.weight_dims, dtype); }

  /// w is (O, C*H*W) or (O, C, H, W): the same memory.
  void check(const Tensor& x, const Tensor& w, const Tensor& y) const {
    const int64_t in = spec_.channels * spec_.height * spec_.width;
    PLSC_CHECK(x.elements() == spec_.batch * in && x.dtype() == spec_.dtype, "linear input {} of {}, expected {} x {}",
               dtype_name(x.dtype()), x.shape().text(), spec_.batch, in);
    PLSC_CHECK(w.elements() == spec_.out_features * in && w.dtype() == Dtype::f32, "linear weight {}, expected {} x {}",
               w.shape().text(), spec_.out_features, in);
    check_tensor("linear output", y, {spec_.batch, spec_.out_features}, spec_.dtype);
  }

  const DnnlRuntime& runtime_;
  LinearSpec spec_;
  Layouts layouts_;
  inner_product_forward::primitive_desc desc_;
  ForwardPass forward_;
  std::optional<DataPass> data_;
  std::optional<WeightPass> weight_;
};

}  // namespace

std::unique_ptr<LinearOp> make_cpu_linear(const DnnlRuntime& runtime, const LinearSpec& s) {
  PLSC_CHECK(s.batch > 0 && s.height > 0 && s.width > 0 && s.channels > 0 && s.out_features > 0,
             "linear layer of ({}, {}, {}, {}) to {}", s.batch, s.height, s.width, s.channels, s.out_features);
  if (s.dtype == Dtype::f32) return make_cpu_linear_gemm(runtime, s);
  return std::make_unique<CpuLinear>(runtime, s);
}

}  // namespace plsc
