// Loops of sparse gradient sums (kernels/math/topk.h) over flat ranges. One thread's piece each; the callers split.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/math/topk.h"

namespace plsc::kernels {

/// What accumulates of a tensor on its way to the other ranks; n elements of each.
struct UnsentRange {
  const float* grad = nullptr;
  const float* value = nullptr;
  float* velocity = nullptr;
  float* unsent = nullptr;
  int64_t n = 0;
};

/// out[i] = math::accumulated; the range stays as it is.
void accumulate_into(const math::SgdRule& rule, const UnsentRange& range, float* out);
/// The same in the range itself: velocity and unsent.
void accumulate(const math::SgdRule& rule, const UnsentRange& range);

/// Adds to counts[math::topk_bin] of each element.
void count_magnitudes(const math::TopkCut& cut, int level, const float* x, int64_t n, int64_t* counts);
/// From a level's counts: the cut with this level's bits.
math::TopkCut narrow_cut(const math::TopkCut& cut, int level, const int64_t* counts);

struct CutCounts {
  int64_t above = 0, at = 0;
};
CutCounts count_taken(const math::TopkCut& cut, const float* x, int64_t n);
/// Writes the taken elements in their order: first + i, and the value's bits; of those at the cut at most `left`. How
/// many.
int64_t write_taken(const math::TopkCut& cut, const float* x, int64_t n, int64_t left, int32_t first, int32_t* indices,
                    int32_t* bits);

/// A magnitude's bits that at least k of the n elements are likely to reach, and not many more: by a sample, the
/// sampled threshold of Deep Gradient Compression. 0: a sample would not pay, as k is too large a part of n, or n
/// small.
uint32_t sampled_bound(const float* x, int64_t n, int64_t k);
/// Which element the sample takes of cell i, `cell` elements each: not always the same column of a matrix.
inline int64_t sampled_place(int64_t i, int64_t cell) {
  return i * cell +
         static_cast<int64_t>((static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15U >> 33) % static_cast<uint64_t>(cell));
}
inline int64_t sample_size(int64_t n) { return n / 8 < 16384 ? n / 8 : 16384; }

/// Elements that reach a bound, in their order.
struct Candidates {
  std::vector<int32_t> indices;
  std::vector<float> values;
};
void add_candidates(uint32_t bound, const float* x, int64_t n, int32_t first, Candidates& to);

/// value[i] = math::descend
void descend(const math::SgdRule& rule, const float* grad, float* value, int64_t n);

}  // namespace plsc::kernels
