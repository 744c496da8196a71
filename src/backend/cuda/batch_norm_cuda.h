// Batch norm's ops on a GPU: see nn_ops.h.
#pragma once
#include "backend/cuda/vendor_handles.h"
#include "backend/nn_ops.h"
#include "kernels/math/step_state.h"

namespace plsc {

void cuda_batch_norm_stats(CudaRuntime& runtime, const Tensor& x, Tensor& sums);
void cuda_batch_norm_merge(CudaRuntime& runtime, const Tensor& gathered, float eps, Tensor& mean_rstd);

/// A mean and a variance, of one batch norm.
struct NormStatistics {
  const Tensor& mean;
  const Tensor& variance;
};
void cuda_batch_norm_constants(CudaRuntime& runtime, const NormStatistics& constants, float eps, Tensor& mean_rstd);
/// Writes into `running`, unless the state blocks updates.
struct NormFolding {
  const math::StepState* state = nullptr;
  float momentum = 0;
};
void cuda_batch_norm_fold(CudaRuntime& runtime, const NormFolding& how, const Tensor& sums,
                          const NormStatistics& running);

void cuda_batch_norm_apply(CudaRuntime& runtime, const BatchNormApply& args);
void cuda_batch_norm_backward_sums(CudaRuntime& runtime, const BatchNormBackward& args);
void cuda_batch_norm_backward_apply(CudaRuntime& runtime, const BatchNormBackward& args);

}  // namespace plsc
