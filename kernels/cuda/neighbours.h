// The last part of a search for nearest rows: the candidates' cosines in a fixed order of sums, the same bits as
// kernels/cpu/neighbours.h gives, and the lists in order. The candidates come from kernels/cuda/head_top.h.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/head_top.h"

namespace plsc::kernels::cuda {

struct MeasureBlock {
  const float* queries = nullptr;  // (samples of the lists, D)
  const float* keys = nullptr;     // (key_count, D): rows [first_key, first_key + key_count)
  int64_t first_key = 0, key_count = 0, columns = 0;
};
/// Cosines of the lists' rows that are among these keys.
void measure_candidates(const MeasureBlock& block, const TopLists& lists, cudaStream_t stream);

/// Each list by cosine, the largest first, ties by row. Places without a row (-1, -inf) come last.
void sort_candidates(const TopLists& lists, cudaStream_t stream);

}  // namespace plsc::kernels::cuda
