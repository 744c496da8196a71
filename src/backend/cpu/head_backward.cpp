// The backward pass: each tile's cosines once more, their gradient in place, the two products that it feeds, and the
// rows' update, while all of it is in the cache. Weights and momentum are read and written once.
#include <algorithm>
#include <cstring>
#include <limits>

#include "backend/cpu/head_passes.h"
#include "backend/cpu/row_change.h"
#include "base/threads.h"
#include "kernels/cpu/exact_sum.h"
#include "kernels/cpu/row_step.h"
#include "kernels/math/bf16.h"

namespace plsc {
namespace {

struct Backward {
  HeadWorkspace& work;
  RowSource& rows;
  const HeadPass& pass;
  const HeadGradient& gradient;
  const std::optional<RowUpdate> update;  // unset: rows are not updated
  const TargetIndex targets;
  const std::vector<float> log_sum;  // (padded samples); +inf for padding, which makes its gradient 0

  /// Dot products to d loss / d cos / |w|, in the products' type.
  const void* to_gradient(TileScratch& s, const PreparedTile& tile, const NextTile& next) const {
    const int64_t samples = work.padded_samples();
    const float* inverse_norms = s.inverse.data<float>();
    const auto factor = static_cast<float>(static_cast<double>(pass.logits.scale) * gradient.gradient_scale);
    const float* target = gradient.target_gradient.data<float>();
    float* dots = s.dots.data<float>();
    const auto target_value = [&](int64_t sample, int64_t row) { return target[sample] * inverse_norms[row]; };
    const int64_t begin = tile.source.begin, behind = tile.count * samples,
                  padding = (tile.padded - tile.count) * samples;
    if (pass.compute == Dtype::f32) {
      next.beside(tile.count, [&](int64_t first, int64_t count) {
        kernels::head_tile_gradient({count, samples}, tile_logits(pass, s, first), factor, log_sum.data(),
                                    dots + first * samples);
      });
      targets.each(begin, tile.count, [&](int64_t sample, int64_t position) {
        dots[(position - begin) * samples + sample] = target_value(sample, position - begin);
      });
      std::fill_n(dots + behind, padding, 0.0F);
      return dots;
    }
    auto* g16 = reinterpret_cast<uint16_t*>(s.gradient16.data<bf16_t>());
    next.beside(tile.count, [&](int64_t first, int64_t count) {
      kernels::head_tile_gradient_bf16({count, samples}, tile_logits(pass, s, first), factor, log_sum.data(),
                                       dots + first * samples, g16 + first * samples);
    });
    targets.each(begin, tile.count, [&](int64_t sample, int64_t position) {
      g16[(position - begin) * samples + sample] = math::float_to_bf16(target_value(sample, position - begin));
    });
    std::fill_n(g16 + behind, padding, uint16_t{0});
    return g16;
  }

  void update_in_place(TileScratch& s, const PreparedTile& tile) const {
    const RowTile& source = tile.source;
    // Where rows lag, their momentum has been read already.
    const bool ask = !source.in_order() && source.lag.last_update == nullptr;
    for (int64_t i = 0; i < tile.count; ++i) {
      if (ask && i + kRowsAhead < tile.count) ask_for_momentum(source, source.stored_row(i + kRowsAhead), s.columns);
      step_row(source, source.stored_row(i), row_gradient(s, i), *update, s.row);
    }
  }
  void keep(TileScratch& s, const PreparedTile& tile) const {
    float* dw = gradient.dweight.data<float>() + tile.source.begin * s.columns;
    for (int64_t i = 0; i < tile.count; ++i) {
      const float* w =
          s.compute == Dtype::f32 ? static_cast<const float*>(tile.operand) + i * s.columns : s.row_in_fp32(tile, i);
      if (gradient.accumulate) {
        kernels::row_add_gradient(row_gradient(s, i), w, dw + i * s.columns);
      } else {
        kernels::row_write_gradient(row_gradient(s, i), w, dw + i * s.columns);
      }
    }
  }
  static kernels::RowGradient row_gradient(TileScratch& s, int64_t i) {
    const float inverse = s.unit_rows ? s.inverse.data<float>()[i] : 0;
    return {s.row_gradient.data<float>() + i * s.columns, inverse, s.columns};
  }

  /// dx += g w in an exact sum, so that it does not matter which classes a tile or a rank holds. fp32 alone.
  void add_in_double(TileScratch& s, const PreparedTile& tile) const {
    const int64_t samples = work.padded_samples();
    const auto* weights = static_cast<const float*>(tile.operand);
    for (int64_t i = 0; i < work.samples(); ++i) {
      double* dx = s.dx.data<double>() + i * s.columns;
      for (int64_t j = 0; j < tile.count; ++j) {
        kernels::add_exactly(s.dots.data<float>()[j * samples + i], weights + j * s.columns, dx, s.columns);
      }
    }
  }

  /// Tile t of a thread's tiles, which end at `end`.
  void tile(TileScratch& s, int64_t t, int64_t end) const {
    const TilePlan& plan = work.plan();
    const RowAccess access = gradient.update ? RowAccess::update : RowAccess::read;
    const PreparedTile tile = s.prepare(rows, plan.begin(t), plan.count(t), access);
    s.products.dots(tile.padded, tile.operand, work.x(), s.dots.data<float>());
    const void* g = to_gradient(s, tile, NextTile(rows, plan, t + 1, end));
    if (gradient.dx.dtype() == Dtype::f64) {
      add_in_double(s, tile);
    } else {
      s.products.add_sample_gradient(tile.padded, g, tile.operand, s.dx.data<float>());
    }
    s.products.row_gradient(tile.padded, g, work.x(), s.row_gradient.data<float>());
    if (gradient.dweight.defined()) {
      keep(s, tile);
    } else if (update) {
      update_in_place(s, tile);
    }
    rows.close(tile.source, access);
  }
};

std::vector<float> padded_log_sum(const Tensor& log_sum, int64_t padded) {
  std::vector<float> out(static_cast<size_t>(padded), std::numeric_limits<float>::infinity());
  std::ranges::copy(log_sum.span<float>(), out.begin());
  return out;
}

/// dx = the threads' parts, in order.
template <class T>
void merge(HeadWorkspace& work, Tensor& dx) {
  parallel_ranges(dx.elements(), work.threads(), [&](int64_t begin, int64_t end, int) {
    T* to = dx.data<T>();
    std::copy(work.scratch(0).dx.data<T>() + begin, work.scratch(0).dx.data<T>() + end, to + begin);
    for (int p = 1; p < work.threads(); ++p) {
      const T* part = work.scratch(p).dx.data<T>();
      for (int64_t i = begin; i < end; ++i) to[i] += part[i];
    }
  });
}

}  // namespace

void cpu_backward_pass(HeadWorkspace& work, RowSource& rows, const HeadPass& pass, HeadGradient& gradient,
                       const math::StepState& state) {
  PLSC_CHECK(gradient.update.has_value() != gradient.dweight.defined());
  const bool in_double = gradient.dx.dtype() == Dtype::f64;
  PLSC_CHECK(!in_double || pass.compute == Dtype::f32, "sums in double of {}", dtype_name(pass.compute));
  work.prepare(rows, pass);
  work.set_samples(pass.x);
  std::optional<RowUpdate> update;
  if (gradient.update && !math::updates_blocked(state)) update.emplace(*gradient.update, state);
  const Backward backward{work,
                          rows,
                          pass,
                          gradient,
                          update,
                          TargetIndex(pass.position),
                          padded_log_sum(gradient.log_sum, work.padded_samples())};
  parallel_ranges(work.plan().tiles, work.threads(), [&](int64_t begin, int64_t end, int part) {
    TileScratch& scratch = work.scratch(part);
    scratch.start_gradient(gradient.dx.dtype());
    for (int64_t t = begin; t < end; ++t) backward.tile(scratch, t, end);
  });
  in_double ? merge<double>(work, gradient.dx) : merge<float>(work, gradient.dx);
}

}  // namespace plsc
