// A stored row of class centres with its momentum on a CPU, whatever they are stored in: as it lies, as it is to be
// read, and its step.
#pragma once
#include <algorithm>
#include <cstddef>
#include <vector>

#include "backend/row_source.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/row_step.h"

namespace plsc {

/// Row `row` of a table (rows, columns) in `type`: where it lies, or as fp32 in `buffer` (columns).
inline float* as_fp32(void* rows, Dtype type, int64_t row, int64_t columns, float* buffer) {
  if (type == Dtype::f32) return static_cast<float*>(rows) + row * columns;
  kernels::cast(static_cast<const kernels::Bf16*>(rows) + row * columns, buffer, columns);
  return buffer;
}

/// The weights of stored row `row`: where they lie, or as fp32 in `buffer` (columns) where they are bf16.
inline float* row_weights(const RowTile& tile, int64_t row, int64_t columns, float* buffer) {
  return as_fp32(tile.weight, tile.weight_type, row, columns, buffer);
}
/// Its momentum in the same way.
inline float* row_momentum(const RowTile& tile, int64_t row, int64_t columns, float* buffer) {
  return as_fp32(tile.momentum, tile.momentum_type, row, columns, buffer);
}

inline math::RowRandom row_random(const RowTile& tile, int64_t row, math::Draw what) {
  const int64_t* classes = tile.rounding.classes;
  const int64_t class_id = tile.rounding.first_class + (classes != nullptr ? classes[row] : row);
  return math::row_random(tile.rounding.seed, tile.rounding.update, class_id, what);
}

/// What a stored row missed, where rows lag; null where it missed nothing.
inline const math::CatchUpMatrix<float>* missed_steps(const RowLag& lag, int64_t row) {
  if (lag.last_update == nullptr || lag.last_update[row] >= lag.next) return nullptr;
  return lag.steps + (lag.last_update[row] - lag.first);
}

/// Memory for a row in fp32, (D) each.
struct RowScratch {
  explicit RowScratch(int64_t columns) : weights(static_cast<size_t>(columns)), momentum(weights.size()) {}
  std::vector<float> weights, momentum;
};
/// The row as a reader sees it, caught up, in fp32: where it lies, or in `buffers`.
inline const float* current_row(const RowTile& tile, int64_t row, int64_t columns, RowScratch& buffers) {
  const float* w = row_weights(tile, row, columns, buffers.weights.data());
  const auto* missed = missed_steps(tile.lag, row);
  if (missed == nullptr) return w;
  const float* v = row_momentum(tile, row, columns, buffers.momentum.data());
  kernels::row_caught_up(*missed, w, v, columns, buffers.weights.data());
  return buffers.weights.data();
}
/// The same, to `to` (columns).
inline void read_row(const RowTile& tile, int64_t row, int64_t columns, RowScratch& buffers, float* to) {
  const float* w = row_weights(tile, row, columns, to);
  if (const auto* missed = missed_steps(tile.lag, row)) {
    kernels::row_caught_up(*missed, w, row_momentum(tile, row, columns, buffers.momentum.data()), columns, to);
  } else if (w != to) {
    std::copy_n(w, columns, to);
  }
}

/// How far ahead of its update a row that does not lie in order is asked for: some thousand cycles.
constexpr int64_t kRowsAhead = 4;

/// Asks for memory that is needed soon, from the second-level cache.
inline void ask_for(const void* data, int64_t bytes) {
  constexpr int64_t kLine = 64;
  const auto* from = static_cast<const std::byte*>(data);
  for (int64_t at = 0; at < bytes; at += kLine) __builtin_prefetch(from + at, 0, 2);
}
inline void ask_for_weights(const RowTile& tile, int64_t row, int64_t columns) {
  const auto bytes = columns * static_cast<int64_t>(dtype_size(tile.weight_type));
  ask_for(static_cast<const std::byte*>(tile.weight) + row * bytes, bytes);
}
inline void ask_for_momentum(const RowTile& tile, int64_t row, int64_t columns) {
  const auto bytes = columns * static_cast<int64_t>(dtype_size(tile.momentum_type));
  ask_for(static_cast<const std::byte*>(tile.momentum) + row * bytes, bytes);
}

/// f(w, v) with pointers to the stored row's weights and momentum, in the types that they are stored in. A tile that is
/// read may have no momentum: null.
template <class F>
auto with_row(const RowTile& tile, int64_t row, int64_t columns, const F& f) {
  const auto at = [&](auto* rows) { return rows == nullptr ? rows : rows + row * columns; };
  const auto with_momentum = [&](auto* w) {
    if (tile.momentum_type == Dtype::f32) return f(w, at(static_cast<float*>(tile.momentum)));
    return f(w, at(static_cast<kernels::Bf16*>(tile.momentum)));
  };
  if (tile.weight_type == Dtype::f32) return with_momentum(at(static_cast<float*>(tile.weight)));
  return with_momentum(at(static_cast<kernels::Bf16*>(tile.weight)));
}

/// Brings a row that missed steps up to date where it lies.
inline void catch_up_row(const RowTile& tile, int64_t row, int64_t columns, RowScratch& buffers) {
  if (const auto* missed = missed_steps(tile.lag, row)) {
    float* w = row_weights(tile, row, columns, buffers.weights.data());
    float* v = row_momentum(tile, row, columns, buffers.momentum.data());
    kernels::row_catch_up(*missed, w, v, columns);
    if (tile.weight_type != Dtype::f32) {
      kernels::row_round(row_random(tile, row, math::Draw::rounding), w, columns,
                         static_cast<kernels::Bf16*>(tile.weight) + row * columns);
    }
    if (tile.momentum_type != Dtype::f32) {
      kernels::row_round(row_random(tile, row, math::Draw::momentum_rounding), v, columns,
                         static_cast<kernels::Bf16*>(tile.momentum) + row * columns);
    }
  }
  tile.lag.last_update[row] = tile.lag.next;
}

/// The row's step: caught up, updated, and rounded where it is stored in bf16.
inline void step_row(const RowTile& tile, int64_t row, const kernels::RowGradient& gradient,
                     const math::SgdRule& rule) {
  kernels::RowStep step;
  step.gradient = gradient;
  step.rule = rule;
  step.missed = missed_steps(tile.lag, row);
  if (tile.weight_type != Dtype::f32) step.weights = row_random(tile, row, math::Draw::rounding);
  if (tile.momentum_type != Dtype::f32) step.momentum = row_random(tile, row, math::Draw::momentum_rounding);
  with_row(tile, row, gradient.columns, [&](auto* w, auto* v) { kernels::row_step(step, w, v); });
  if (tile.lag.last_update != nullptr) tile.lag.last_update[row] = tile.lag.next + 1;
}

}  // namespace plsc
