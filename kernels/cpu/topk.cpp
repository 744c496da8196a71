#include "kernels/cpu/topk.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "kernels/cpu/clones.h"

namespace plsc::kernels {
namespace {

PLSC_INLINE uint32_t magnitude(float x) { return std::bit_cast<uint32_t>(x) & 0x7FFFFFFFU; }

}  // namespace

PLSC_CLONES void accumulate_into(const math::SgdRule& rule, const UnsentRange& range, float* out) {
  const math::SgdRule r = rule;  // its members cannot alias the arrays
  const UnsentRange x = range;
  for (int64_t i = 0; i < x.n; ++i) {
    float u = x.velocity[i];
    out[i] = math::accumulated(r, x.grad[i], x.value[i], u, x.unsent[i]);
  }
}

PLSC_CLONES void accumulate(const math::SgdRule& rule, const UnsentRange& range) {
  const math::SgdRule r = rule;
  const UnsentRange x = range;
  for (int64_t i = 0; i < x.n; ++i)
    x.unsent[i] = math::accumulated(r, x.grad[i], x.value[i], x.velocity[i], x.unsent[i]);
}

void count_magnitudes(const math::TopkCut& cut, int level, const float* x, int64_t n, int64_t* counts) {
  for (int64_t i = 0; i < n; ++i) {
    const int bin = math::topk_bin(cut, level, magnitude(x[i]));
    if (bin >= 0) ++counts[bin];
  }
}

math::TopkCut narrow_cut(const math::TopkCut& cut, int level, const int64_t* counts) {
  math::TopkCut next = cut;
  if (cut.all != 0) return next;
  for (int bin = math::topk_bins(level) - 1; bin >= 0; --bin) {
    if (counts[bin] >= next.left) {
      next.bits |= static_cast<uint32_t>(bin) << math::topk_shift(level);
      return next;
    }
    next.left -= counts[bin];
  }
  next.all = 1;  // in the first level alone: the others have as many as were left
  return next;
}

CutCounts count_taken(const math::TopkCut& cut, const float* x, int64_t n) {
  CutCounts counts;
  for (int64_t i = 0; i < n; ++i) {
    counts.above += math::above_cut(cut, magnitude(x[i]));
    counts.at += math::at_cut(cut, magnitude(x[i]));
  }
  return counts;
}

int64_t write_taken(const math::TopkCut& cut, const float* x, int64_t n, int64_t left, int32_t first, int32_t* indices,
                    int32_t* bits) {
  int64_t written = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t size = magnitude(x[i]);
    const bool last = left > 0 && math::at_cut(cut, size);
    if (!last && !math::above_cut(cut, size)) continue;
    left -= last;
    indices[written] = first + static_cast<int32_t>(i);
    bits[written++] = std::bit_cast<int32_t>(x[i]);
  }
  return written;
}

uint32_t sampled_bound(const float* x, int64_t n, int64_t k) {
  constexpr int64_t kLeastElements = 8192, kLargestPart = 32;
  if (n < kLeastElements || k > n / kLargestPart) return 0;
  const int64_t size = sample_size(n), cell = n / size;
  std::vector<uint32_t> sample(static_cast<size_t>(size));
  for (int64_t i = 0; i < size; ++i) sample[static_cast<size_t>(i)] = magnitude(x[sampled_place(i, cell)]);
  // Half as many again as the sample should have of the k largest, and some for chance, where these are few.
  const int64_t rank = (3 * k * size / n) / 2 + 4;
  const auto found = sample.begin() + static_cast<std::ptrdiff_t>(std::min(rank, size - 1));
  std::ranges::nth_element(sample, found, std::greater<>());
  return *found;
}

/// Where the next block begins, from `begin` on, that has an element of at least `bound`; n: there is none.
PLSC_CLONES int64_t next_block(uint32_t bound, const float* x, int64_t begin, int64_t n, int64_t block) {
  for (; begin < n; begin += block) {
    const int64_t size = std::min(block, n - begin);
    int64_t count = 0;
    for (int64_t i = 0; i < size; ++i) count += magnitude(x[begin + i]) >= bound;
    if (count > 0) return begin;
  }
  return n;
}

void add_candidates(uint32_t bound, const float* x, int64_t n, int32_t first, Candidates& to) {
  constexpr int64_t kBlock = 64;  // most have none
  for (int64_t begin = 0; (begin = next_block(bound, x, begin, n, kBlock)) < n; begin += kBlock) {
    for (int64_t i = begin; i < std::min(begin + kBlock, n); ++i) {
      if (magnitude(x[i]) < bound) continue;
      to.indices.push_back(first + static_cast<int32_t>(i));
      to.values.push_back(x[i]);
    }
  }
}

PLSC_CLONES void descend(const math::SgdRule& rule, const float* grad, float* value, int64_t n) {
  const math::SgdRule r = rule;
  for (int64_t i = 0; i < n; ++i) math::descend(r, grad[i], value[i]);
}

}  // namespace plsc::kernels
