// Bound by the link, not by these: plain loops, an element a thread, whose accesses join within a warp.
#include "kernels/cuda/narrow_sum.h"

#include "kernels/cuda/device.h"
#include "kernels/math/bf16.h"

namespace plsc::kernels::cuda {
namespace {

__global__ void narrow_kernel(const float* from, int64_t n, uint16_t* to, int64_t padded) {
  for (int64_t i = global_thread(); i < padded; i += grid_threads()) to[i] = i < n ? math::float_to_bf16(from[i]) : 0;
}

__global__ void sum_kernel(const uint16_t* parts, int ranks, int64_t n, uint16_t* out) {
  for (int64_t i = global_thread(); i < n; i += grid_threads()) {
    float sum = math::bf16_to_float(parts[i]);
    for (int r = 1; r < ranks; ++r) sum += math::bf16_to_float(parts[r * n + i]);
    out[i] = math::float_to_bf16(sum);
  }
}

__global__ void widen_kernel(const uint16_t* from, float* to, int64_t n) {
  for (int64_t i = global_thread(); i < n; i += grid_threads()) to[i] = math::bf16_to_float(from[i]);
}

}  // namespace

void narrow_bf16(const float* from, int64_t n, uint16_t* to, int64_t padded, cudaStream_t stream) {
  launch(narrow_kernel, {.blocks = blocks_for(padded, kThreads)}, stream, from, n, to, padded);
}

void sum_bf16(const uint16_t* parts, int ranks, int64_t n, uint16_t* out, cudaStream_t stream) {
  launch(sum_kernel, {.blocks = blocks_for(n, kThreads)}, stream, parts, ranks, n, out);
}

void widen_bf16(const uint16_t* from, float* to, int64_t n, cudaStream_t stream) {
  launch(widen_kernel, {.blocks = blocks_for(n, kThreads)}, stream, from, to, n);
}

}  // namespace plsc::kernels::cuda
