// Layouts on the device: transpositions between what PyTorch keeps and what the libraries want, and a linear layer's
// bias. With (batch, rows, columns) a transposition is each of these:
//   convolution weights (O, I, K, K) to (O, K, K, I): batch O, rows I, columns K*K; their gradients back: rows K*K
//   activations (N, H, W, C) to (N, C, H, W): batch N, rows H*W, columns C; and back: rows C
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace plsc::kernels::cuda {

/// Matrices that lie one behind the other, each row by row.
struct MatrixBatch {
  int64_t batch = 1, rows = 0, columns = 0;
};

/// to[b][j][i] = from[b][i][j], for each matrix b of `from`; added to `to` where `accumulate`. Rounded to the nearest.
/// float to float, __half or __nv_bfloat16, and those to float; `accumulate` is for float alone. No overlap.
template <class From, class To>
void transpose(const MatrixBatch& shape, const From* from, To* to, bool accumulate, cudaStream_t stream);

/// y (rows, columns) += bias (columns).
void add_bias(const float* bias, int64_t rows, int64_t columns, float* y, cudaStream_t stream);

/// How many doubles of device memory bias_gradient needs for itself.
int64_t bias_gradient_scratch(int64_t rows, int64_t columns);
/// dbias (columns) = the sum of the rows of dy (rows, columns), added to it where `accumulate`. In double and in an
/// order that the shape alone decides.
struct BiasGradient {
  const float* dy = nullptr;
  int64_t rows = 0, columns = 0;
  double* scratch = nullptr;
  float* dbias = nullptr;
  bool accumulate = false;
};
void bias_gradient(const BiasGradient& args, cudaStream_t stream);

}  // namespace plsc::kernels::cuda
