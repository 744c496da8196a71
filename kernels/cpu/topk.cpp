#include "kernels/cpu/topk.h"

#include <bit>

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

PLSC_CLONES void descend(const math::SgdRule& rule, const float* grad, float* value, int64_t n) {
  const math::SgdRule r = rule;
  for (int64_t i = 0; i < n; ++i) math::descend(r, grad[i], value[i]);
}

}  // namespace plsc::kernels
