// How a GPU's passes of the head cut rows into tiles: sizes alone, without CUDA, so that a plan knows them anywhere.
#pragma once
#include <algorithm>
#include <cstdint>

#include "tensor/dtype.h"

namespace plsc {

/// How active rows are cut into tiles. Everything depends on the sizes and the device alone.
struct HeadTilePlan {
  int64_t rows = 0;    // active rows
  int64_t tile = 0;    // rows of a tile, a multiple of kRowMultiple
  int64_t tiles = 0;   // the last one may be shorter
  bool cached = true;  // a tile's dot products and operand take no more than half of the cache

  /// Products take a multiple of this many rows, so that few different ones have to be planned.
  static constexpr int64_t kRowMultiple = 128;
  static constexpr int64_t kLeastRows = 2048, kMostRows = 32768;

  /// Between rows of dots (T, S) and of the gradient beside them in bf16: the samples, up to whole 16 bytes of both.
  static int64_t stride(int64_t samples) { return (samples + 7) / 8 * 8; }
  /// Of a row's dot products and operand.
  static int64_t bytes_per_row(int64_t samples, int64_t columns, Dtype compute) {
    return stride(samples) * static_cast<int64_t>(sizeof(float)) + columns * static_cast<int64_t>(dtype_size(compute));
  }
  /// Where `tile_rows` is 0: a tile's dot products and operand take half of `cache_bytes`.
  static HeadTilePlan make(int64_t rows, int64_t bytes_per_row, int64_t cache_bytes, int64_t tile_rows);
  int64_t begin(int64_t t) const { return t * tile; }
  int64_t count(int64_t t) const { return std::min(tile, rows - t * tile); }
  int64_t padded(int64_t t) const { return padded_rows(count(t)); }
  static int64_t padded_rows(int64_t rows) { return (rows + kRowMultiple - 1) / kRowMultiple * kRowMultiple; }
};

inline HeadTilePlan HeadTilePlan::make(int64_t rows, int64_t bytes_per_row, int64_t cache_bytes, int64_t tile_rows) {
  HeadTilePlan plan;
  plan.rows = rows;
  const int64_t fitting = cache_bytes / 2 / std::max<int64_t>(bytes_per_row, 1);
  const int64_t wanted = tile_rows > 0 ? tile_rows : std::clamp(fitting, kLeastRows, kMostRows);
  plan.tile = std::min(padded_rows(wanted), padded_rows(rows));
  plan.cached = std::min(wanted, rows) <= fitting;
  plan.tiles = rows == 0 ? 0 : (rows + plan.tile - 1) / plan.tile;
  return plan;
}

}  // namespace plsc
