// Where a pass of the head draws its rows from: tiles of the active rows of one rank's shard. The passes know nothing
// of the store behind it (device memory, or host memory that the device reaches; disk can follow), nor of how the rows
// were chosen.
#pragma once
#include <cstdint>

#include "kernels/math/catch_up.h"
#include "tensor/dtype.h"

namespace plsc {

enum class RowAccess {
  read,    // weights (and momentum, where rows lag) are read
  update,  // weights and momentum are read and written; afterwards the rows no longer lag
};

/// Where rows that missed steps stand: row j has taken all updates before number last_update[j], and is to be read as
/// if it had taken those before `next`. steps[u - first] is what updates [u, next) do to an untouched row; with AdamW
/// its `wv` is made row by row from coasting[u - first, next - first).
struct RowLag {
  int64_t* last_update = nullptr;  // by stored row; null: nothing lags
  const math::CatchUpMatrix<float>* steps = nullptr;
  const math::CoastingStep* coasting = nullptr;  // null: steps are all there is
  int64_t first = 0, next = 0;
};

/// How updated weights and momentum become bf16: rounded by chance, by draws of (seed, update, class, column).
struct RowRounding {
  uint64_t seed = 0;
  int64_t update = 0;       // another number for each change of a row
  int64_t first_class = 0;  // of stored row 0 of the tile
  /// Where stored rows are copies in any order: stored row j is of class first_class + classes[j]. Memory of the
  /// device.
  const int64_t* classes = nullptr;
};

/// Active rows [begin, begin + count): active row i of the tile is stored row index[i] of weight and momentum
/// (`columns` wide), or where index is null stored row first + i * stride. Either is fp32, or bf16 with `rounding`.
/// Pointers are memory of the device.
struct RowTile {
  int64_t begin = 0, count = 0;
  void* weight = nullptr;
  Dtype weight_type = Dtype::f32;
  RowRounding rounding;
  void* momentum = nullptr;
  Dtype momentum_type = Dtype::f32;
  float* second_moment = nullptr;  // by stored row, of adamw and lamb: one a row; memory of the device
  int64_t padding = 0;             // the last columns of a row that are always 0, which no mean over a row counts
  bool far = false;                // both lie in a device's table_memory: slow to read, so passes keep what they read
  const int64_t* index = nullptr;
  int64_t first = 0, stride = 1;
  RowLag lag;  // last_update follows the same indexing

  /// For those who run where the index is.
  int64_t stored_row(int64_t i) const { return index != nullptr ? index[i] : first + i * stride; }
  bool in_order() const { return index == nullptr && first == 0 && stride == 1; }
};

class RowSource {
 public:
  virtual ~RowSource() = default;
  /// Active rows.
  virtual int64_t count() const = 0;
  virtual int64_t columns() const = 0;
  /// Several threads may hold tiles at once. A row that one holds for update no other holds; for reading, tiles may
  /// share rows (the targets of several samples).
  virtual RowTile open(int64_t begin, int64_t count, RowAccess access) = 0;
  virtual void close(const RowTile& tile, RowAccess access) = 0;
};

}  // namespace plsc
