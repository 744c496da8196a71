// Convolution by oneDNN. Activations stay NHWC: on AVX-512 and AMX that is as fast as oneDNN's blocked layouts for
// every shape of the networks here once the conversions are counted (scripts/bench/conv.cpp). Weights take the
// layout that oneDNN likes best; they are small, and change at every step.
#include <string_view>

#include "backend/cpu/conv_products.h"
#include "backend/cpu/conv_weight_sums.h"
#include "backend/cpu/dnnl_exec.h"
#include "backend/cpu/ops_cpu.h"

namespace plsc {
namespace {

using dnnl::convolution_backward_data;
using dnnl::convolution_backward_weights;
using dnnl::convolution_forward;

struct Layouts {
  explicit Layouts(const ConvSpec& s)
      : x(dnnl_nhwc({s.batch, s.in_channels, s.height, s.width}, s.dtype)),
        y(dnnl_nhwc({s.batch, s.out_channels, s.out_height(), s.out_width()}, s.dtype)),
        weight_dims{s.out_channels, s.in_channels, s.kernel, s.kernel},
        user_weight(weight_dims, dnnl::memory::data_type::f32, dnnl::memory::format_tag::oihw),
        window{{s.kernel, s.kernel}, {s.stride, s.stride}, {s.pad, s.pad}} {}

  dnnl::memory::desc x, y;
  dnnl::memory::dims weight_dims;
  dnnl::memory::desc user_weight;  // (O, I, K, K) fp32
  DnnlWindow window;
};

struct ForwardPass {
  ForwardPass(const DnnlRuntime& r, const Layouts& l, const convolution_forward::primitive_desc& d)
      : weights(r, l.user_weight, d.weights_desc()),
        primitive(r, convolution_forward(d), d,
                  {{DNNL_ARG_SRC, l.x}, {DNNL_ARG_WEIGHTS, d.weights_desc()}, {DNNL_ARG_DST, l.y}}) {}
  DnnlWeights weights;
  DnnlPrimitive primitive;
};

struct DataPass {
  DataPass(const DnnlRuntime& r, const Layouts& l, const convolution_backward_data::primitive_desc& d)
      : weights(r, l.user_weight, d.weights_desc()),
        primitive(r, convolution_backward_data(d), d,
                  {{DNNL_ARG_DIFF_SRC, l.x}, {DNNL_ARG_WEIGHTS, d.weights_desc()}, {DNNL_ARG_DIFF_DST, l.y}}) {}
  DnnlWeights weights;
  DnnlPrimitive primitive;
};

struct WeightPass {
  WeightPass(const DnnlRuntime& r, const Layouts& l, const convolution_backward_weights::primitive_desc& d)
      : gradient(r, d.diff_weights_desc(), l.user_weight),
        primitive(r, convolution_backward_weights(d), d,
                  {{DNNL_ARG_SRC, l.x}, {DNNL_ARG_DIFF_WEIGHTS, d.diff_weights_desc()}, {DNNL_ARG_DIFF_DST, l.y}}) {}
  DnnlGradient gradient;
  DnnlPrimitive primitive;
};

/// oneDNN 2.6's 1x1 kernels that first gather a strided input take workspace for the channels that there are and write
/// whole vectors of 16: with fewer input channels they write beyond it. The next implementation is taken then.
std::string_view unsafe_implementation(const ConvSpec& s) {
  return s.kernel == 1 && s.stride > 1 && s.in_channels < 16 ? "jit_1x1" : "";
}

/// oneDNN's own kernels. Primitives are made when a pass first runs: evaluation never goes backward.
class DirectConv final : public ConvOp {
 public:
  DirectConv(const DnnlRuntime& runtime, const ConvSpec& spec)
      : runtime_(runtime),
        spec_(spec),
        layouts_(spec),
        desc_(dnnl_shim::conv_forward(runtime.engine, {layouts_.x, weight(spec.dtype), layouts_.y}, layouts_.window,
                                      dnnl_attributes(), unsafe_implementation(spec))) {}

  void forward(const Tensor& x, const Tensor& w, Tensor& y) override {
    if (!forward_) forward_.emplace(runtime_, layouts_, desc_);
    Tensor hold;
    forward_->primitive.run(
        {{DNNL_ARG_SRC, x.raw()}, {DNNL_ARG_WEIGHTS, forward_->weights.prepare(w, hold)}, {DNNL_ARG_DST, y.raw()}});
  }

  void backward_data(const Tensor& dy, const Tensor& w, Tensor& dx) override {
    if (!data_) {
      data_.emplace(
          runtime_, layouts_,
          dnnl_shim::conv_backward_data(runtime_.engine, {layouts_.x, weight(spec_.dtype), layouts_.y}, layouts_.window,
                                        dnnl_attributes(), desc_, unsafe_implementation(spec_)));
    }
    Tensor hold;
    data_->primitive.run({{DNNL_ARG_DIFF_SRC, dx.raw()},
                          {DNNL_ARG_WEIGHTS, data_->weights.prepare(w, hold)},
                          {DNNL_ARG_DIFF_DST, dy.raw()}});
  }

  void backward_weight(const Tensor& x, const Tensor& dy, Tensor& dweight, bool accumulate) override {
    if (dweight.dtype() == Dtype::f64) {
      if (!sums_) sums_.emplace(runtime_, layouts_.user_weight, [this] { return one_image(); });
      return sums_->run(x, dy, spec_.batch, dweight, accumulate);
    }
    if (!weight_) {
      weight_.emplace(
          runtime_, layouts_,
          dnnl_shim::conv_backward_weights(runtime_.engine, {layouts_.x, weight(Dtype::f32), layouts_.y},
                                           layouts_.window, dnnl_attributes(), desc_, unsafe_implementation(spec_)));
    }
    Tensor hold;
    void* target = weight_->gradient.target(dweight, accumulate, hold);
    weight_->primitive.run({{DNNL_ARG_SRC, x.raw()}, {DNNL_ARG_DIFF_WEIGHTS, target}, {DNNL_ARG_DIFF_DST, dy.raw()}});
    weight_->gradient.finish(target, dweight, accumulate);
  }

 private:
  dnnl::memory::desc weight(Dtype dtype) const { return dnnl_any(layouts_.weight_dims, dtype); }

  ConvWeightSums::OneImage one_image() const {
    ConvSpec spec = spec_;
    spec.batch = 1;
    const Layouts l(spec);
    const auto hint = dnnl_shim::conv_forward(runtime_.engine, {l.x, weight(spec.dtype), l.y}, l.window,
                                              dnnl_attributes(), unsafe_implementation(spec));
    const auto d = dnnl_shim::conv_backward_weights(runtime_.engine, {l.x, weight(Dtype::f32), l.y}, l.window,
                                                    dnnl_attributes(), hint, unsafe_implementation(spec));
    return {{runtime_,
             convolution_backward_weights(d),
             d,
             {{DNNL_ARG_SRC, l.x}, {DNNL_ARG_DIFF_WEIGHTS, d.diff_weights_desc()}, {DNNL_ARG_DIFF_DST, l.y}}},
            d.diff_weights_desc()};
  }

  const DnnlRuntime& runtime_;
  ConvSpec spec_;
  Layouts layouts_;
  convolution_forward::primitive_desc desc_;
  std::optional<ForwardPass> forward_;
  std::optional<DataPass> data_;
  std::optional<WeightPass> weight_;
  std::optional<ConvWeightSums> sums_;  // for gradients in double
};

/// Takes each pass the way that is faster for its shape.
class RoutedConv final : public ConvOp {
 public:
  RoutedConv(const DnnlRuntime& runtime, const ConvSpec& spec)
      : spec_(spec), direct_(runtime, spec), products_(runtime, spec) {}

  void forward(const Tensor& x, const Tensor& w, Tensor& y) override {
    check(x, w, y);
    if (ConvProducts::preferred(spec_, ConvPass::forward)) return products_.forward(x, w, y);
    direct_.forward(x, w, y);
  }
  void backward_data(const Tensor& dy, const Tensor& w, Tensor& dx) override {
    check(dx, w, dy);
    if (ConvProducts::preferred(spec_, ConvPass::data)) return products_.backward_data(dy, w, dx);
    direct_.backward_data(dy, w, dx);
  }
  void backward_weight(const Tensor& x, const Tensor& dy, Tensor& dweight, bool accumulate) override {
    check(x, dweight, dy, dweight.dtype() == Dtype::f64 ? Dtype::f64 : Dtype::f32);
    if (dweight.dtype() == Dtype::f32 && ConvProducts::preferred(spec_, ConvPass::weight))
      return products_.backward_weight(x, dy, dweight, accumulate);
    direct_.backward_weight(x, dy, dweight, accumulate);
  }

 private:
  void check(const Tensor& x, const Tensor& w, const Tensor& y, Dtype weight = Dtype::f32) const {
    check_tensor("input", x, {spec_.batch, spec_.height, spec_.width, spec_.in_channels}, spec_.dtype);
    check_tensor("weight", w, {spec_.out_channels, spec_.in_channels, spec_.kernel, spec_.kernel}, weight);
    check_tensor("output", y, {spec_.batch, spec_.out_height(), spec_.out_width(), spec_.out_channels}, spec_.dtype);
  }

  ConvSpec spec_;
  DirectConv direct_;
  ConvProducts products_;
};

}  // namespace

std::unique_ptr<ConvOp> make_cpu_conv(const DnnlRuntime& runtime, const ConvSpec& s) {
  PLSC_CHECK(s.batch > 0 && s.in_channels > 0 && s.out_channels > 0 && s.kernel > 0 && s.stride > 0 && s.pad >= 0 &&
                 s.height + 2 * s.pad >= s.kernel && s.width + 2 * s.pad >= s.kernel,
             "convolution of ({}, {}, {}, {}) to {} channels, kernel {}, stride {}, pad {}", s.batch, s.height, s.width,
             s.in_channels, s.out_channels, s.kernel, s.stride, s.pad);
  return std::make_unique<RoutedConv>(runtime, s);
}

std::unique_ptr<ConvOp> make_cpu_direct_conv(const DnnlRuntime& runtime, const ConvSpec& spec) {
  return std::make_unique<DirectConv>(runtime, spec);
}

}  // namespace plsc
