// What the forward and the backward kernels of batch norm share: a thread's parameters, and z of its elements.
#pragma once
#include "kernels/cuda/batch_norm.h"
#include "kernels/cuda/columns.h"
#include "kernels/math/batch_norm.h"

namespace plsc::kernels::cuda {

/// How many blocks read or sum a matrix: a few for each processor. A sum's blocks each leave a row of partial sums, so
/// their threads have more rows, and the rows of partial sums are few beside the matrix.
inline constexpr int64_t kNormBlocks = 1024, kNormRows = 8;
inline constexpr int64_t kNormSumBlocks = 512, kNormSumRows = 16;

inline Strips norm_strips(const NormShape& s, int vector) {
  return make_strips(s.rows, s.channels, vector, kNormRows, kNormBlocks);
}
inline Strips norm_sum_strips(const NormShape& s, int vector) {
  return make_strips(s.rows, s.channels, vector, kNormSumRows, kNormSumBlocks);
}

/// Whether rows of T can be read by whole vectors: each row begins at a multiple of 16 bytes where the first does.
template <class T>
bool vectors_fit(const NormShape& s, std::initializer_list<const void*> arrays) {
  return s.channels % kPerVec<T> == 0 && std::all_of(arrays.begin(), arrays.end(), is_vec_aligned);
}

/// The parameters of a thread's channels.
template <int kVector>
struct NormColumns {
  float mean[kVector], scale[kVector], beta[kVector], slope[kVector];

  __device__ __forceinline__ void load(const NormParameters& p, int64_t channels, int64_t column) {
    PLSC_UNROLL
    for (int i = 0; i < kVector; ++i) {
      const int64_t c = column + i;
      mean[i] = p.mean_rstd[c];
      scale[i] = p.mean_rstd[channels + c] * (p.gamma == nullptr ? 1.0f : p.gamma[c]);
      beta[i] = p.beta == nullptr ? 0.0f : p.beta[c];
      slope[i] = p.slope == nullptr ? 0.0f : p.slope[p.shared_slope ? 0 : c];
    }
  }
  __device__ __forceinline__ float z(int i, float x) const { return math::normalized(x, mean[i], scale[i], beta[i]); }
};

}  // namespace plsc::kernels::cuda
