// NnOps on a GPU: hands out prepared ops, and gives the stateless ones to their kernels.
#include "backend/cuda/nn_ops_cuda.h"

#include <algorithm>

#include "backend/cuda/batch_norm_cuda.h"
#include "backend/cuda/conv_cuda.h"
#include "backend/cuda/kernel_types.h"
#include "backend/cuda/linear_cuda.h"
#include "backend/cuda/pool_cuda.h"
#include "kernels/cuda/elementwise.h"

namespace plsc {
namespace {

class CudaNnOps final : public NnOps {
 public:
  CudaNnOps(CudaRuntime& runtime, const math::StepState* state) : runtime_(runtime), state_(state) {}

  std::unique_ptr<ConvOp> make_conv(const ConvSpec& spec) override { return make_cuda_conv(runtime_, spec); }
  std::unique_ptr<LinearOp> make_linear(const LinearSpec& spec) override { return make_cuda_linear(runtime_, spec); }
  std::unique_ptr<PoolOp> make_pool(const PoolSpec& spec) override { return make_cuda_pool(runtime_, spec); }

  void batch_norm_stats(const Tensor& x, Tensor& sums) override { cuda_batch_norm_stats(runtime_, x, sums); }
  void batch_norm_merge(const Tensor& gathered, float eps, Tensor& mean_rstd) override {
    cuda_batch_norm_merge(runtime_, gathered, eps, mean_rstd);
  }
  void batch_norm_constants(const Tensor& mean, const Tensor& variance, float eps, Tensor& mean_rstd) override {
    cuda_batch_norm_constants(runtime_, {mean, variance}, eps, mean_rstd);
  }
  void batch_norm_fold(const Tensor& sums, float momentum, Tensor& running_mean, Tensor& running_var) override {
    cuda_batch_norm_fold(runtime_, {state_, momentum}, sums, {running_mean, running_var});
  }
  void batch_norm_apply(const BatchNormApply& args) override { cuda_batch_norm_apply(runtime_, args); }
  void batch_norm_backward_sums(const BatchNormBackward& args) override {
    cuda_batch_norm_backward_sums(runtime_, args);
  }
  void batch_norm_backward_apply(const BatchNormBackward& args) override {
    cuda_batch_norm_backward_apply(runtime_, args);
  }

  void dropout(const Dropout& args) override {
    PLSC_CHECK(args.p >= 0 && args.p < 1, "dropout of {}", args.p);
    const int64_t samples = args.x.dim(0);
    check_device_tensor("dropout input", args.x, args.x.shape(), args.x.dtype());
    check_device_tensor("dropout output", args.y, args.x.shape(), args.x.dtype());
    with_activation_type(args.x.dtype(), [&]<class T>(T) {
      kernels::cuda::dropout({samples, args.x.elements() / std::max<int64_t>(samples, 1), args.seed, args.p}, state_,
                             elements<T>(args.x), elements<T>(args.y), runtime_.stream);
    });
  }

  void cast(const Tensor& from, Tensor& to) override {
    check_device_tensor("cast source", from, from.shape(), from.dtype());
    check_device_tensor("cast target", to, from.shape(), to.dtype());
    if (cast_as<float, __nv_bfloat16>(from, to) || cast_as<float, __half>(from, to)) return;
    if (cast_as<__nv_bfloat16, float>(from, to) || cast_as<__nv_bfloat16, __half>(from, to)) return;
    if (cast_as<__half, float>(from, to) || cast_as<__half, __nv_bfloat16>(from, to)) return;
    if (cast_as<double, float>(from, to)) return;
    PLSC_CHECK(false, "cast from {} to {}", dtype_name(from.dtype()), dtype_name(to.dtype()));
  }

  void add(const Tensor& x, Tensor& y) override {
    check_device_tensor("summand", x, x.shape(), x.dtype());
    check_device_tensor("sum", y, x.shape(), y.dtype());
    if (add_as<float, float>(x, y) || add_as<double, double>(x, y) || add_as<double, float>(x, y)) return;
    PLSC_CHECK(false, "sum of {} and {}", dtype_name(x.dtype()), dtype_name(y.dtype()));
  }

 private:
  template <class A, class B>
  static bool are(const Tensor& a, const Tensor& b) {
    return a.dtype() == KernelDtype<A>::value && b.dtype() == KernelDtype<B>::value;
  }
  /// False where the tensors have other types.
  template <class From, class To>
  bool cast_as(const Tensor& from, const Tensor& to) const {
    if (!are<From, To>(from, to)) return false;
    kernels::cuda::cast(elements<From>(from), elements<To>(to), from.elements(), runtime_.stream);
    return true;
  }
  template <class X, class Y>
  bool add_as(const Tensor& x, const Tensor& y) const {
    if (!are<X, Y>(x, y)) return false;
    kernels::cuda::add(elements<X>(x), elements<Y>(y), x.elements(), runtime_.stream);
    return true;
  }

  CudaRuntime& runtime_;
  const math::StepState* state_;
};

}  // namespace

std::unique_ptr<NnOps> make_cuda_nn_ops(CudaRuntime& runtime, const math::StepState* state) {
  return std::make_unique<CudaNnOps>(runtime, state);
}

}  // namespace plsc
