// The forward pass: sums of exponentials over this rank's negatives, tile by tile, in double; threads are
// merged in order.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/head_passes.h"
#include "base/threads.h"

namespace plsc {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct Forward {
  HeadWorkspace& work;
  RowSource& rows;
  const HeadPass& pass;
  const HeadSums& sums;
  const TargetIndex targets;

  void start(TileScratch& s) const {
    std::fill(s.sum.begin(), s.sum.end(), 0.0);
    std::ranges::fill(s.max_cosine.span<float>(), kMinusInfinity);
    std::ranges::fill(s.max_logit.span<float>(), kMinusInfinity);
    std::ranges::fill(s.shift.span<float>(), 0.0F);
    if (sums.fixed_shift) std::ranges::copy(sums.shift.span<float>(), s.shift.data<float>());
  }

  /// The running maximum takes this tile's logits in; what was summed so far is brought to the new shift.
  void raise_shift(TileScratch& s, const kernels::TileShape& shape, const kernels::TileLogits& logits) const {
    float* largest = s.max_logit.data<float>();
    float* shift = s.shift.data<float>();
    kernels::head_tile_max_logit(shape, logits, s.dots.data<float>(), largest);
    for (size_t i = 0; i < s.sum.size(); ++i) {
      if (largest[i] == kMinusInfinity) continue;
      if (s.sum[i] != 0) s.sum[i] *= std::exp(static_cast<double>(shift[i]) - largest[i]);
      shift[i] = largest[i];
    }
  }

  /// Tile t of a thread's tiles, which end at `end`.
  void tile(TileScratch& s, int64_t t, int64_t end) const {
    const TilePlan& plan = work.plan();
    const PreparedTile tile = s.prepare(rows, plan.begin(t), plan.count(t), RowAccess::read);
    float* dots = s.dots.data<float>();
    s.products.dots(tile.padded, tile.operand, work.x(), dots);
    rows.close(tile.source, RowAccess::read);
    targets.each(plan.begin(t), tile.count, [&](int64_t sample, int64_t position) {
      dots[(position - plan.begin(t)) * work.padded_samples() + sample] = kMinusInfinity;
    });
    const kernels::TileShape shape{tile.count, work.padded_samples()};
    const kernels::TileLogits logits = tile_logits(pass, s);
    if (!sums.fixed_shift) raise_shift(s, shape, logits);
    const NextTile next(rows, plan, t + 1, end);
    next.beside(tile.count, [&](int64_t first, int64_t count) {
      kernels::head_tile_sum({count, shape.samples}, tile_logits(pass, s, first), dots + first * shape.samples,
                             s.shift.data<float>(), s.sum.data(), s.max_cosine.data<float>());
    });
  }
};

/// The threads' parts as one: sums relative to the largest shift where shifts run.
void merge(HeadWorkspace& work, HeadSums& sums) {
  for (int64_t i = 0; i < work.samples(); ++i) {
    float largest = kMinusInfinity, cosine = kMinusInfinity;
    for (int p = 0; p < work.threads(); ++p) {
      largest = std::max(largest, work.scratch(p).max_logit.data<float>()[i]);
      cosine = std::max(cosine, work.scratch(p).max_cosine.data<float>()[i]);
    }
    double sum = 0;
    for (int p = 0; p < work.threads(); ++p) {
      const TileScratch& s = work.scratch(p);
      const double part = s.sum[static_cast<size_t>(i)];
      const bool shifted = !sums.fixed_shift && part != 0;
      sum += shifted ? part * std::exp(static_cast<double>(s.shift.data<float>()[i]) - largest) : part;
    }
    sums.sum.data<double>()[i] = sum;
    sums.max_cosine.data<float>()[i] = cosine;
    if (!sums.fixed_shift) sums.shift.data<float>()[i] = largest;
  }
}

}  // namespace

void cpu_forward_pass(HeadWorkspace& work, RowSource& rows, const HeadPass& pass, HeadSums& sums) {
  work.prepare(rows, pass);
  work.set_samples(pass.x);
  const Forward forward{work, rows, pass, sums, TargetIndex(pass.position)};
  parallel_ranges(work.plan().tiles, work.threads(), [&](int64_t begin, int64_t end, int part) {
    TileScratch& scratch = work.scratch(part);
    forward.start(scratch);
    for (int64_t t = begin; t < end; ++t) forward.tile(scratch, t, end);
  });
  merge(work, sums);
}

}  // namespace plsc
