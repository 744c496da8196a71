// Sparse sums of gradients (kernels/math/topk.h): the largest elements of a part, and what becomes of what was sent.
// All pointers are device memory; what depends on the step is read from its state.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/math/topk.h"

namespace plsc::kernels::cuda {

/// A part of a tensor, n elements of each.
struct UnsentPieces {
  const float* grad = nullptr;
  float* value = nullptr;
  float* velocity = nullptr;
  float* unsent = nullptr;
  int64_t n = 0;
};

/// Elements of a block's piece when they are counted and written.
inline constexpr int64_t kTopkPiece = 8192;
inline constexpr int64_t topk_pieces(int64_t n) { return (n + kTopkPiece - 1) / kTopkPiece; }

/// What a search needs beside: bins (math::kTopkBins), one cut, two counts for each piece.
struct TopkSearch {
  unsigned* bins = nullptr;
  math::TopkCut* cut = nullptr;
  int64_t* above = nullptr;
  int64_t* at = nullptr;
};

/// room[i] = math::accumulated; the part stays as it is.
void accumulate_into(const UnsentPieces& part, const math::UnsentTerms& terms, float* room,
                     const math::StepState* state, cudaStream_t stream);
/// The k largest of x (n), in order: indices[j] = first + i and the value's bits; math::kNothingSent and 0 where there
/// are fewer that are not 0.
void take_largest(const float* x, int64_t n, int64_t k, const TopkSearch& search, int32_t first, int32_t* indices,
                  int32_t* bits, cudaStream_t stream);
/// math::accumulated in the part itself, and zeros where indices - first say that an element was sent. Nothing where
/// math::updates_blocked.
void keep_rest(const UnsentPieces& part, const math::UnsentTerms& terms, const int32_t* indices, int64_t k,
               int32_t first, const math::StepState* state, cudaStream_t stream);

/// math::mark_not_finite where the bits of one of `parts` parts (k indices, k bits) are.
void check_sent(const int32_t* sent, int64_t parts, int64_t k, math::StepState* state, cudaStream_t stream);
/// sum[index] += loss scale * value, for one part; the others' turns come in the stream's order.
void add_sent(const int32_t* sent, int64_t k, float* sum, const math::StepState* state, cudaStream_t stream);
/// value[i] = math::descend; nothing where math::updates_blocked.
void descend(const float* grad, float* value, int64_t n, const math::UpdateGroup& group, const math::StepState* state,
             cudaStream_t stream);
/// x *= math::local_clip_factor of the sum of `count` squares.
void clip_local(float* x, int64_t n, const double* squares, int64_t count, double bound, const math::StepState* state,
                cudaStream_t stream);

}  // namespace plsc::kernels::cuda
