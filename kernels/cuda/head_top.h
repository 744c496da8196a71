// The largest cosines of each sample over tiles of rows: a sorted list a sample, into which each tile is merged.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace plsc::kernels::cuda {

/// As many as two lists fit a block's shared memory.
inline constexpr int64_t kMostTop = 1500;

/// Lists (samples, k), best first, ties by row.
struct TopLists {
  float* cosines = nullptr;
  int64_t* rows = nullptr;
  int64_t samples = 0, k = 0;  // k <= kMostTop
};
/// No row yet: cosine -inf, row -1.
void start_top(const TopLists& lists, cudaStream_t stream);

/// dots (samples, stride) of rows [begin, begin + rows): here a sample's dot products lie side by side.
struct TopTile {
  const float* dots = nullptr;
  const float* inverse_norms = nullptr;  // (rows)
  int64_t begin = 0, rows = 0, stride = 0;
  float limit = 1;  // cosines are clamped to [-limit, limit]
  /// Where samples are rows themselves: sample s is row own_row + s, which it leaves out.
  bool without_own = false;
  int64_t own_row = 0;
};
/// Rows of the tile behind all that the lists hold. A cosine that is NaN is no candidate.
void merge_top(const TopTile& tile, const TopLists& lists, cudaStream_t stream);

}  // namespace plsc::kernels::cuda
