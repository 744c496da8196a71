// Kernels over flat ranges on the device: addition, conversion, dropout. Twin of kernels/cpu/elementwise.h; n may be 0.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/math/step_state.h"

namespace plsc::kernels::cuda {

/// y += x. float and float, double and double, or double to float.
template <class X, class Y>
void add(const X* x, Y* y, int64_t n, cudaStream_t stream);

/// Between any two of float, __nv_bfloat16 and __half, and from double to float; to the nearest, ties to even. A value
/// beyond the target's range becomes infinity.
template <class From, class To>
void cast(const From* from, To* to, int64_t n, cudaStream_t stream);

/// Dropout (kernels/math/dropout.h) of `samples` samples, which in the global batch begin at the state's first_sample,
/// in the state's step.
struct DropoutShape {
  int64_t samples = 0, features = 0;
  uint64_t seed = 0;
  float p = 0;
};
/// T: float, __nv_bfloat16 or __half. x and y may be the same.
template <class T>
void dropout(const DropoutShape& shape, const math::StepState* state, const T* x, T* y, cudaStream_t stream);

}  // namespace plsc::kernels::cuda
