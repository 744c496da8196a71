// NnOps on the CPU: hands out prepared ops, and splits the stateless ones over threads.
#include "backend/cpu/dnnl_exec.h"
#include "backend/cpu/ops_cpu.h"
#include "backend/cpu/parts.h"
#include "kernels/cpu/elementwise.h"

namespace plsc {
namespace {

kernels::Bf16* bits(const Tensor& t) { return reinterpret_cast<kernels::Bf16*>(t.data<bf16_t>()); }

class CpuNnOps final : public NnOps {
 public:
  CpuNnOps(Device& device, const math::StepState* state)
      : runtime_(device, device.threads()), threads_(device.threads()), state_(*state) {}

  std::unique_ptr<ConvOp> make_conv(const ConvSpec& spec) override { return make_cpu_conv(runtime_, spec); }
  std::unique_ptr<LinearOp> make_linear(const LinearSpec& spec) override { return make_cpu_linear(runtime_, spec); }
  std::unique_ptr<PoolOp> make_pool(const PoolSpec& spec) override { return make_cpu_pool(runtime_, spec); }

  void batch_norm_stats(const Tensor& x, Tensor& stats) override { cpu_batch_norm_stats(x, stats, threads_); }
  void batch_norm_merge(const Tensor& gathered, float eps, Tensor& mean_rstd) override {
    cpu_batch_norm_merge(gathered, eps, mean_rstd);
  }
  void batch_norm_constants(const Tensor& mean, const Tensor& variance, float eps, Tensor& mean_rstd) override {
    cpu_batch_norm_constants(mean, variance, eps, mean_rstd);
  }
  void batch_norm_fold(const Tensor& sums, float momentum, Tensor& running_mean, Tensor& running_var) override {
    if (!math::updates_blocked(state_)) cpu_batch_norm_fold(sums, momentum, running_mean, running_var);
  }
  void batch_norm_apply(const BatchNormApply& args) override { cpu_batch_norm_apply(args, threads_); }
  void batch_norm_backward_sums(const BatchNormBackward& args) override {
    cpu_batch_norm_backward_sums(args, threads_);
  }
  void batch_norm_backward_apply(const BatchNormBackward& args) override {
    cpu_batch_norm_backward_apply(args, threads_);
  }

  void dropout(const Dropout& args) override {
    PLSC_CHECK(args.p >= 0 && args.p < 1, "dropout of {}", args.p);
    check_tensor("dropout output", args.y, args.x.shape(), args.x.dtype());
    const int64_t features = args.x.elements() / std::max<int64_t>(args.x.dim(0), 1);
    const uint64_t first = static_cast<uint64_t>(state_.in.first_sample) * static_cast<uint64_t>(features);
    for_parts(args.x.elements(), kElementsPerPart, threads_, [&](int64_t begin, int64_t end, int) {
      const kernels::DropoutRange range{args.seed, static_cast<uint64_t>(state_.in.step),
                                        first + static_cast<uint64_t>(begin), end - begin, args.p};
      if (args.x.dtype() == Dtype::bf16) {
        kernels::dropout(range, bits(args.x) + begin, bits(args.y) + begin);
      } else {
        kernels::dropout(range, args.x.data<float>() + begin, args.y.data<float>() + begin);
      }
    });
  }

  void cast(const Tensor& from, Tensor& to) override {
    check_tensor("cast target", to, from.shape(), to.dtype());
    const auto run = [&](const auto* x, auto* y) {
      for_parts(from.elements(), kElementsPerPart, threads_,
                [&](int64_t begin, int64_t end, int) { kernels::cast(x + begin, y + begin, end - begin); });
    };
    const auto is = [&](Dtype a, Dtype b) { return from.dtype() == a && to.dtype() == b; };
    if (is(Dtype::f32, Dtype::bf16)) return run(from.data<float>(), bits(to));
    if (is(Dtype::bf16, Dtype::f32)) return run(bits(from), to.data<float>());
    if (is(Dtype::f64, Dtype::f32)) return run(from.data<double>(), to.data<float>());
    PLSC_CHECK(false, "cast from {} to {}", dtype_name(from.dtype()), dtype_name(to.dtype()));
  }

  void add(const Tensor& x, Tensor& y) override {
    check_tensor("sum", y, x.shape(), y.dtype());
    const auto run = [&](const auto* from, auto* to) {
      for_parts(x.elements(), kElementsPerPart, threads_,
                [&](int64_t begin, int64_t end, int) { kernels::add(from + begin, to + begin, end - begin); });
    };
    const auto is = [&](Dtype a, Dtype b) { return x.dtype() == a && y.dtype() == b; };
    if (is(Dtype::f32, Dtype::f32)) return run(x.data<float>(), y.data<float>());
    if (is(Dtype::f64, Dtype::f64)) return run(x.data<double>(), y.data<double>());
    if (is(Dtype::f64, Dtype::f32)) return run(x.data<double>(), y.data<float>());
    PLSC_CHECK(false, "sum of {} and {}", dtype_name(x.dtype()), dtype_name(y.dtype()));
  }

 private:
  DnnlRuntime runtime_;
  int threads_;
  const math::StepState& state_;
};

}  // namespace

std::unique_ptr<NnOps> make_cpu_nn_ops(Device& device, const math::StepState* state) {
  return std::make_unique<CpuNnOps>(device, state);
}

}  // namespace plsc
