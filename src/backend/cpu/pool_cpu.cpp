// Max and average pooling by oneDNN. The average counts no padding, and the last window may leave rows of the input
// out, as in PyTorch's default (ceil_mode off).
#include "backend/cpu/dnnl_exec.h"
#include "backend/cpu/ops_cpu.h"

namespace plsc {
namespace {

using dnnl::pooling_backward;
using dnnl::pooling_forward;

class CpuPool final : public PoolOp {
 public:
  CpuPool(const DnnlRuntime& runtime, const PoolSpec& spec)
      : runtime_(runtime),
        spec_(spec),
        kind_(spec.kind == PoolSpec::Kind::max ? dnnl::algorithm::pooling_max
                                               : dnnl::algorithm::pooling_avg_exclude_padding),
        window_{{spec.kernel_h, spec.kernel_w}, {spec.stride, spec.stride}, {spec.pad, spec.pad}},
        x_(dnnl_nhwc({spec.batch, spec.channels, spec.height, spec.width}, spec.dtype)),
        y_(dnnl_nhwc({spec.batch, spec.channels, spec.out_height(), spec.out_width()}, spec.dtype)),
        desc_(dnnl_shim::pool_forward(runtime.engine, kind_, x_, y_, window_, dnnl_attributes())),
        argmax_bytes_(desc_.workspace_desc().get_size()),
        forward_(runtime, pooling_forward(desc_), desc_,
                 {{DNNL_ARG_SRC, x_}, {DNNL_ARG_DST, y_}, {DNNL_ARG_WORKSPACE, desc_.workspace_desc()}}) {}

  void forward(const Tensor& x, Tensor& y) override {
    check(x, y);
    if (argmax_bytes_ > 0 && !argmax_.defined()) argmax_ = runtime_.scratch(argmax_bytes_);
    forward_.run({{DNNL_ARG_SRC, x.raw()}, {DNNL_ARG_DST, y.raw()}, {DNNL_ARG_WORKSPACE, argmax_.raw()}});
  }

  void backward(const Tensor& dy, Tensor& dx) override {
    check(dx, dy);
    PLSC_CHECK(argmax_bytes_ == 0 || argmax_.defined(), "pooling: backward before forward");
    if (!backward_) {
      const auto d = dnnl_shim::pool_backward(runtime_.engine, kind_, x_, y_, window_, dnnl_attributes(), desc_);
      backward_.emplace(
          runtime_, pooling_backward(d), d,
          DnnlPrimitive::Layouts{
              {DNNL_ARG_DIFF_SRC, x_}, {DNNL_ARG_DIFF_DST, y_}, {DNNL_ARG_WORKSPACE, desc_.workspace_desc()}});
    }
    backward_->run({{DNNL_ARG_DIFF_SRC, dx.raw()}, {DNNL_ARG_DIFF_DST, dy.raw()}, {DNNL_ARG_WORKSPACE, argmax_.raw()}});
  }

 private:
  void check(const Tensor& x, const Tensor& y) const {
    check_tensor("pooling input", x, {spec_.batch, spec_.height, spec_.width, spec_.channels}, spec_.dtype);
    check_tensor("pooling output", y, {spec_.batch, spec_.out_height(), spec_.out_width(), spec_.channels},
                 spec_.dtype);
  }

  const DnnlRuntime& runtime_;
  PoolSpec spec_;
  dnnl::algorithm kind_;
  DnnlWindow window_;
  dnnl::memory::desc x_, y_;
  pooling_forward::primitive_desc desc_;
  size_t argmax_bytes_;
  Tensor argmax_;  // where each maximum was, from forward to backward
  DnnlPrimitive forward_;
  std::optional<DnnlPrimitive> backward_;
};

}  // namespace

std::unique_ptr<PoolOp> make_cpu_pool(const DnnlRuntime& runtime, const PoolSpec& s) {
  PLSC_CHECK(s.batch > 0 && s.channels > 0 && s.stride > 0 && s.pad >= 0 && s.height + 2 * s.pad >= s.kernel_h &&
                 s.width + 2 * s.pad >= s.kernel_w && s.pad < s.kernel_h && s.pad < s.kernel_w,
             "pooling of ({}, {}, {}, {}) by {} x {}, stride {}, pad {}", s.batch, s.height, s.width, s.channels,
             s.kernel_h, s.kernel_w, s.stride, s.pad);
  return std::make_unique<CpuPool>(runtime, s);
}

}  // namespace plsc
