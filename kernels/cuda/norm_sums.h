// The sum of a channel and of its squares, measured from the channel's first row: fp32 keeps its digits for the
// differences, whatever the mean.
#pragma once
#include "kernels/cuda/norm_columns.h"

namespace plsc::kernels::cuda {

/// A measuring kernel's partial sums (blocks, 2, channels), and behind the most that there can be, the first row.
struct MeasureScratch {
  double* partials = nullptr;
  double* pivot = nullptr;  // (channels)

  MeasureScratch(double* scratch, const NormShape& shape);
};

/// The first row of a thread's channels.
template <int kVector>
struct Pivot {
  float at[kVector];

  template <class T>
  __device__ __forceinline__ void set(const Pack<T, kVector>& row) {
    PLSC_UNROLL
    for (int i = 0; i < kVector; ++i) at[i] = row.get(i);
  }
  __device__ __forceinline__ void write(const MeasureScratch& scratch, int64_t column) const {
    PLSC_UNROLL
    for (int i = 0; i < kVector; ++i) scratch.pivot[column + i] = static_cast<double>(at[i]);
  }
  template <class T>
  __device__ __forceinline__ void add(const Pack<T, kVector>& row, ChannelSums<2, kVector>& sums) const {
    PLSC_UNROLL
    for (int i = 0; i < kVector; ++i) {
      const float away = row.get(i) - at[i];
      sums.template add<0>(i, away);
      sums.template add<1>(i, away * away);
    }
  }
};

/// sums (2, channels) from the partial sums of a kernel on `strips`.
void merge_measures(const Strips& strips, const MeasureScratch& scratch, double* sums, cudaStream_t stream);

}  // namespace plsc::kernels::cuda
