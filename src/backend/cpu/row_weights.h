// A stored row of class centres in fp32, whatever it is stored in.
#pragma once
#include "backend/row_source.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/head_rows.h"

namespace plsc {

/// The weights of stored row `row`: where they lie, or as fp32 in `buffer` (columns) where they are bf16.
inline float* row_weights(const RowTile& tile, int64_t row, int64_t columns, float* buffer) {
  if (tile.weight_type == Dtype::f32) return static_cast<float*>(tile.weight) + row * columns;
  kernels::cast(static_cast<const kernels::Bf16*>(tile.weight) + row * columns, buffer, columns);
  return buffer;
}

/// After a change of what row_weights gave: bf16 is rounded by chance and stored.
inline void keep_row_weights(const RowTile& tile, int64_t row, int64_t columns, const float* weights) {
  if (tile.weight_type == Dtype::f32) return;
  const kernels::RoundedRow to{tile.rounding.seed, tile.rounding.update, tile.rounding.first_class + row, columns};
  kernels::row_round(to, weights, static_cast<kernels::Bf16*>(tile.weight) + row * columns);
}

}  // namespace plsc
