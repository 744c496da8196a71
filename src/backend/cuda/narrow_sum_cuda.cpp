// Sums between GPUs in bf16: see backend.h.
#include "backend/backend.h"
#include "kernels/cuda/narrow_sum.h"

namespace plsc {

void cuda_narrow_bf16(const float* from, int64_t n, uint16_t* to, int64_t padded, void* stream) {
  kernels::cuda::narrow_bf16(from, n, to, padded, static_cast<cudaStream_t>(stream));
}
void cuda_sum_bf16(const uint16_t* parts, int ranks, int64_t n, uint16_t* out, void* stream) {
  kernels::cuda::sum_bf16(parts, ranks, n, out, static_cast<cudaStream_t>(stream));
}
void cuda_widen_bf16(const uint16_t* from, float* to, int64_t n, void* stream) {
  kernels::cuda::widen_bf16(from, to, n, static_cast<cudaStream_t>(stream));
}

}  // namespace plsc
