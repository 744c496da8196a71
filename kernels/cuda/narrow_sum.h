// Sums of several ranks' values in bf16: what comm/reduce.h does on the host. 16-bit patterns (kernels/math/bf16.h).
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace plsc::kernels::cuda {

/// to[i] = bf16(from[i]) for i < n, 0 for n <= i < padded.
void narrow_bf16(const float* from, int64_t n, uint16_t* to, int64_t padded, cudaStream_t stream);

/// out[i] = bf16(((p_0[i] + p_1[i]) + ...) in fp32), with part r at parts + r * n. `out` does not overlap the parts.
void sum_bf16(const uint16_t* parts, int ranks, int64_t n, uint16_t* out, cudaStream_t stream);

void widen_bf16(const uint16_t* from, float* to, int64_t n, cudaStream_t stream);

}  // namespace plsc::kernels::cuda
