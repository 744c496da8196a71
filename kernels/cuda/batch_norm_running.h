// Statistics of batch norms, C elements a layer and step, where they are: nothing of them is read by the host.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/math/step_state.h"

namespace plsc::kernels::cuda {

/// mean_rstd (2, channels) of sums and row counts (ranks, 2 channels + 1), merged in the order of the ranks.
struct NormMerge {
  const double* gathered = nullptr;
  int64_t ranks = 0, channels = 0;
  float eps = 0;
  float* mean_rstd = nullptr;
};
void norm_merge(const NormMerge& args, cudaStream_t stream);

/// mean_rstd (2, channels) of a mean and a variance (channels).
struct NormConstants {
  const float* mean = nullptr;
  const float* variance = nullptr;
  int64_t channels = 0;
  float eps = 0;
  float* mean_rstd = nullptr;
};
void norm_constants(const NormConstants& args, cudaStream_t stream);

/// running += momentum (value - running), of mean and unbiased variance of `sums` (2 channels + 1): sums, squares,
/// rows. Nothing where the state blocks updates.
struct NormFold {
  const math::StepState* state = nullptr;
  const double* sums = nullptr;
  int64_t channels = 0;
  float momentum = 0;
  float* running_mean = nullptr;
  float* running_variance = nullptr;
};
void norm_fold(const NormFold& args, cudaStream_t stream);

}  // namespace plsc::kernels::cuda
