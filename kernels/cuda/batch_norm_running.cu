#include "kernels/cuda/batch_norm_running.h"

#include "kernels/cuda/launch.h"
#include "kernels/math/batch_norm.h"

namespace plsc::kernels::cuda {
namespace {

__device__ __forceinline__ double over_ranks(const NormMerge& a, int64_t column) {
  double sum = 0;
  for (int64_t r = 0; r < a.ranks; ++r) sum += a.gathered[r * (2 * a.channels + 1) + column];
  return sum;
}

__global__ void merge_kernel(NormMerge a) {
  const double n = over_ranks(a, 2 * a.channels);
  for (int64_t c = global_thread(); c < a.channels; c += grid_threads()) {
    const math::Moments moments = math::moments_of(n, over_ranks(a, c), over_ranks(a, a.channels + c));
    a.mean_rstd[c] = static_cast<float>(moments.mean);
    a.mean_rstd[a.channels + c] = math::reciprocal_deviation(moments.m2 / n, a.eps);
  }
}

__global__ void constants_kernel(NormConstants a) {
  for (int64_t c = global_thread(); c < a.channels; c += grid_threads()) {
    a.mean_rstd[c] = a.mean[c];
    a.mean_rstd[a.channels + c] = math::reciprocal_deviation(static_cast<double>(a.variance[c]), a.eps);
  }
}

__device__ __forceinline__ void fold(float momentum, double value, float& running) {
  running += momentum * (static_cast<float>(value) - running);
}

__global__ void fold_kernel(NormFold a) {
  if (math::updates_blocked(*a.state)) return;
  const double n = a.sums[2 * a.channels];
  for (int64_t c = global_thread(); c < a.channels; c += grid_threads()) {
    const math::Moments batch = math::moments_of(n, a.sums[c], a.sums[a.channels + c]);
    fold(a.momentum, batch.mean, a.running_mean[c]);
    fold(a.momentum, n > 1 ? batch.m2 / (n - 1.0) : 0.0, a.running_variance[c]);
  }
}

/// Few elements: small blocks, so that several processors share them.
Grid channel_grid(int64_t channels, const char* function = __builtin_FUNCTION()) {
  Grid grid;
  grid.threads = 64;
  grid.blocks = blocks_for(channels, grid.threads);
  grid.function = function;
  return grid;
}

}  // namespace

void norm_merge(const NormMerge& args, cudaStream_t stream) {
  launch(merge_kernel, channel_grid(args.channels), stream, args);
}

void norm_constants(const NormConstants& args, cudaStream_t stream) {
  launch(constants_kernel, channel_grid(args.channels), stream, args);
}

void norm_fold(const NormFold& args, cudaStream_t stream) {
  launch(fold_kernel, channel_grid(args.channels), stream, args);
}

}  // namespace plsc::kernels::cuda
