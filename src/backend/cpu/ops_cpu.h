// The parts of the CPU backend, as its factory puts them together.
#pragma once
#include <memory>

#include "backend/compress_ops.h"
#include "backend/device.h"
#include "backend/image_ops.h"
#include "backend/nn_ops.h"
#include "backend/optim_ops.h"
#include "kernels/math/step_state.h"

namespace plsc {

struct DnnlRuntime;

/// The step's state outlives them.
std::unique_ptr<NnOps> make_cpu_nn_ops(Device& device, const math::StepState* state);
std::unique_ptr<OptimOps> make_cpu_optim_ops(Device& device, math::StepState* state);
std::unique_ptr<CompressOps> make_cpu_compress_ops(Device& device, math::StepState* state);
std::unique_ptr<ImageOps> make_cpu_image_ops(Device& device);

/// Prepared ops; the runtime outlives them.
std::unique_ptr<ConvOp> make_cpu_conv(const DnnlRuntime& runtime, const ConvSpec& spec);
/// By oneDNN's own kernels alone, whatever the shape: for comparison.
std::unique_ptr<ConvOp> make_cpu_direct_conv(const DnnlRuntime& runtime, const ConvSpec& spec);
std::unique_ptr<LinearOp> make_cpu_linear(const DnnlRuntime& runtime, const LinearSpec& spec);
std::unique_ptr<PoolOp> make_cpu_pool(const DnnlRuntime& runtime, const PoolSpec& spec);

/// Batch norm on `threads` threads: see nn_ops.h.
void cpu_batch_norm_stats(const Tensor& x, Tensor& stats, int threads);
void cpu_batch_norm_merge(const Tensor& gathered, float eps, Tensor& mean_rstd);
void cpu_batch_norm_constants(const Tensor& mean, const Tensor& variance, float eps, Tensor& mean_rstd);
void cpu_batch_norm_fold(const Tensor& sums, float momentum, Tensor& running_mean, Tensor& running_var);
void cpu_batch_norm_apply(const BatchNormApply& args, int threads);
void cpu_batch_norm_backward_sums(const BatchNormBackward& args, int threads);
void cpu_batch_norm_backward_apply(const BatchNormBackward& args, int threads);

/// A caller's mistake: a tensor of another shape or type, or not in host memory.
inline void check_tensor(const char* what, const Tensor& t, const Shape& shape, Dtype dtype) {
  PLSC_CHECK(t.defined() && t.on_host() && t.shape() == shape && t.dtype() == dtype, "{}: {} of {}, expected {} of {}",
             what, t.defined() ? dtype_name(t.dtype()) : "nothing", t.shape().text(), dtype_name(dtype), shape.text());
}

}  // namespace plsc
