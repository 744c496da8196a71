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
  explicit CpuNnOps(Device& device) : runtime_(device, device.threads()), threads_(device.threads()) {}

  std::unique_ptr<ConvOp> make_conv(const ConvSpec& spec) override { return make_cpu_conv(runtime_, spec); }
  std::unique_ptr<LinearOp> make_linear(const LinearSpec& spec) override { return make_cpu_linear(runtime_, spec); }
  std::unique_ptr<PoolOp> make_pool(const PoolSpec& spec) override { return make_cpu_pool(runtime_, spec); }

  void batch_norm_stats(const Tensor& x, Tensor& stats) override { cpu_batch_norm_stats(x, stats, threads_); }
  void batch_norm_merge(const Tensor& gathered, float eps, Tensor& mean_rstd) override {
    cpu_batch_norm_merge(gathered, eps, mean_rstd);
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
    const uint64_t first = static_cast<uint64_t>(args.first_sample) * static_cast<uint64_t>(features);
    for_parts(args.x.elements(), kElementsPerPart, threads_, [&](int64_t begin, int64_t end, int) {
      const kernels::DropoutRange range{args.seed, static_cast<uint64_t>(args.step),
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
    const bool narrow = from.dtype() == Dtype::f32 && to.dtype() == Dtype::bf16;
    PLSC_CHECK(narrow || (from.dtype() == Dtype::bf16 && to.dtype() == Dtype::f32), "cast from {} to {}",
               dtype_name(from.dtype()), dtype_name(to.dtype()));
    for_parts(from.elements(), kElementsPerPart, threads_, [&](int64_t begin, int64_t end, int) {
      if (narrow) {
        kernels::cast(from.data<float>() + begin, bits(to) + begin, end - begin);
      } else {
        kernels::cast(bits(from) + begin, to.data<float>() + begin, end - begin);
      }
    });
  }

  void add(const Tensor& x, Tensor& y) override {
    check_tensor("sum", y, x.shape(), Dtype::f32);
    for_parts(x.elements(), kElementsPerPart, threads_, [&](int64_t begin, int64_t end, int) {
      kernels::add(x.data<float>() + begin, y.data<float>() + begin, end - begin);
    });
  }

 private:
  DnnlRuntime runtime_;
  int threads_;
};

}  // namespace

std::unique_ptr<NnOps> make_cpu_nn_ops(Device& device) { return std::make_unique<CpuNnOps>(device); }

}  // namespace plsc
