// A stored row of class centres with its momentum on a CPU, whatever they are stored in: as it lies, and as it is to be
// read. (How it changes: row_change.h.)
#pragma once
#include <algorithm>
#include <cmath>
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

/// What a stored row missed, where rows lag.
struct MissedSteps {
  const math::CatchUpMatrix<float>* matrix = nullptr;  // null where it missed nothing
  math::CatchUpMatrix<float> own;                      // `matrix` may be this one
  float second = 1;                                    // of its second moment is left
};
/// In `missed`, which must stay where it is for as long as its matrix is used.
inline void find_missed_steps(const RowTile& tile, int64_t row, MissedSteps& missed) {
  const RowLag& lag = tile.lag;
  if (lag.last_update == nullptr || lag.last_update[row] >= lag.next) return;
  const int64_t since = lag.last_update[row] - lag.first;
  missed.matrix = lag.steps + since;
  if (lag.coasting == nullptr) return;
  math::CoastingRow coasting;
  const double root = std::sqrt(double{tile.second_moment[row]});
  coasting.root = root;
  for (int64_t u = since; u < lag.next - lag.first; ++u) math::coast(lag.coasting[u], coasting);
  missed.own = lag.steps[since];
  missed.own.wv = static_cast<float>(-coasting.moved);
  missed.second = root > 0 ? static_cast<float>(std::pow(coasting.root / root, 2)) : 1.0F;
  missed.matrix = &missed.own;
}

/// Memory for a row in fp32, (D) each.
struct RowScratch {
  explicit RowScratch(int64_t columns)
      : weights(static_cast<size_t>(columns)), momentum(weights.size()), gradient(weights.size()) {}
  std::vector<float> weights, momentum, gradient;
};
/// The row as a reader sees it, caught up, in fp32: where it lies, or in `buffers`.
inline const float* current_row(const RowTile& tile, int64_t row, int64_t columns, RowScratch& buffers) {
  const float* w = row_weights(tile, row, columns, buffers.weights.data());
  MissedSteps missed;
  find_missed_steps(tile, row, missed);
  if (missed.matrix == nullptr) return w;
  const float* v = row_momentum(tile, row, columns, buffers.momentum.data());
  kernels::row_caught_up(*missed.matrix, w, v, columns, buffers.weights.data());
  return buffers.weights.data();
}
/// The same, to `to` (columns).
inline void read_row(const RowTile& tile, int64_t row, int64_t columns, RowScratch& buffers, float* to) {
  const float* w = row_weights(tile, row, columns, to);
  MissedSteps missed;
  find_missed_steps(tile, row, missed);
  if (missed.matrix != nullptr) {
    kernels::row_caught_up(*missed.matrix, w, row_momentum(tile, row, columns, buffers.momentum.data()), columns, to);
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

}  // namespace plsc
