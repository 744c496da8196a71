// The head's work on one tile of dot products: the twin of kernels/cpu/head_tile.h. dots (rows, stride) holds a row a
// class and a column a sample: neighbouring threads take neighbouring samples, so that every access is coalesced, each
// thread keeps its samples' sums in registers while it walks over classes, and a class's constants are one broadcast.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/math/softmax_loss.h"

namespace plsc::kernels::cuda {

struct TileShape {
  int64_t rows = 0, samples = 0;
  int64_t padded_rows = 0;  // rows of `dots`; those behind `rows` hold no class
  int64_t stride = 0;       // between rows of `dots`: samples and padding, a multiple of 4
};

/// How a dot product becomes a logit: cos = dot * inverse_norm[row], and from there as the rule says. A sample's own
/// target is no negative: it is left out.
struct TileLogits {
  const float* dots = nullptr;           // (padded rows, stride)
  const float* inverse_norms = nullptr;  // (rows)
  const int64_t* position = nullptr;     // (samples): the target's row, counted like `begin`; -1 for none
  int64_t begin = 0;                     // the tile's first row
  math::LogitRule rule;
};

/// What is summed over negatives: exp(logit - shift) in double, and the largest cosine before clamp and filter (-inf
/// without negatives). Where the shift runs it is the largest logit so far, -inf without negatives.
struct TileSums {
  double* sum = nullptr;
  float* shift = nullptr;
  float* max_cosine = nullptr;
};

/// A tile's sums are made in parts, each over some rows: fp32 within a thread's few rows, double from there on.
int64_t tile_parts(const TileShape& shape);
/// parts (tile_parts, stride) written. A running shift where `fixed_shift` (samples) is null.
void sum_tile(const TileShape& shape, const TileLogits& logits, const float* fixed_shift, const TileSums& parts,
              cudaStream_t stream);

/// total (samples) = sums over nothing. A fixed shift is left alone.
void start_sums(int64_t samples, const TileSums& total, bool fixed_shift, cudaStream_t stream);
/// Adds a tile's parts to the total, in their order.
void merge_tile(const TileShape& shape, const TileSums& parts, const TileSums& total, bool fixed_shift,
                cudaStream_t stream);

/// g = factor exp(logit - log_sum) inverse_norm, 0 where a clamp or the filter stopped the cosine; target_gradient
/// times inverse_norm for the sample's own target; 0 in padding.
struct TileGradient {
  float factor = 0;
  const float* log_sum = nullptr;          // (samples)
  const float* target_gradient = nullptr;  // (samples)
};
/// (padded rows, stride); `to` may be the dots themselves.
void tile_gradient(const TileShape& shape, const TileLogits& logits, const TileGradient& gradient, float* to,
                   cudaStream_t stream);
void tile_gradient_bf16(const TileShape& shape, const TileLogits& logits, const TileGradient& gradient, uint16_t* to,
                        cudaStream_t stream);

}  // namespace plsc::kernels::cuda
