// A stored row of class centres and its momentum in fp32, whatever they are stored in.
#pragma once
#include "backend/row_source.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/head_rows.h"

namespace plsc {

inline float* stored_row(void* rows, Dtype type, int64_t row, int64_t columns, float* buffer) {
  if (type == Dtype::f32) return static_cast<float*>(rows) + row * columns;
  kernels::cast(static_cast<const kernels::Bf16*>(rows) + row * columns, buffer, columns);
  return buffer;
}

/// The weights of stored row `row`: where they lie, or as fp32 in `buffer` (columns) where they are bf16.
inline float* row_weights(const RowTile& tile, int64_t row, int64_t columns, float* buffer) {
  return stored_row(tile.weight, tile.weight_type, row, columns, buffer);
}
/// Its momentum in the same way.
inline float* row_momentum(const RowTile& tile, int64_t row, int64_t columns, float* buffer) {
  return stored_row(tile.momentum, tile.momentum_type, row, columns, buffer);
}

/// What row_weights and row_momentum gave, changed.
struct ChangedRow {
  const float *weights, *momentum;
};
/// bf16 is rounded by chance and stored; fp32 was changed where it lies.
inline void keep_row(const RowTile& tile, int64_t row, int64_t columns, const ChangedRow& changed) {
  kernels::RoundedRow to{tile.rounding.seed, tile.rounding.update, tile.rounding.first_class + row, columns};
  if (tile.weight_type != Dtype::f32) {
    kernels::row_round(to, changed.weights, static_cast<kernels::Bf16*>(tile.weight) + row * columns);
  }
  if (tile.momentum_type != Dtype::f32) {
    to.what = math::Draw::momentum_rounding;
    kernels::row_round(to, changed.momentum, static_cast<kernels::Bf16*>(tile.momentum) + row * columns);
  }
}

}  // namespace plsc
