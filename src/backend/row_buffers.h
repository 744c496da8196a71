// The rows of tables in host memory that a sampled step takes, in a device's own memory: the next step's are brought in
// while this one computes, and what it changed goes back while the next one does. A row that both take comes from the
// one that changed it, not from the table, which does not have it yet.
#pragma once
#include <cmath>
#include <cstdint>

#include "backend/device.h"
#include "backend/row_source.h"
#include "tensor/tensor.h"

namespace plsc {

class SampledRows;

/// A rank's rows.
struct RowTables {
  Tensor weight, momentum;  // (rows, D) in table_memory
  Tensor second_moment;     // (rows) f32 in device memory; undefined where the optimizer has none
  Tensor last_update;       // (rows) i64 in device memory; undefined where nothing lags
};

/// Some of them, one behind the other, as they are stored. All in device memory.
struct FetchedRows {
  Tensor index;                       // (n) i64: where they are in the tables, ascending
  Tensor weight, momentum;            // (n, D)
  Tensor second_moment, last_update;  // (n)

  /// Memory for `room` rows of `tables`.
  static FetchedRows make(Device& device, const RowTables& tables, int64_t room) {
    const int64_t columns = tables.weight.dim(1);
    FetchedRows rows;
    rows.index = device.tensor({room}, Dtype::i64);
    rows.weight = device.tensor({room, columns}, tables.weight.dtype());
    rows.momentum = device.tensor({room, columns}, tables.momentum.dtype());
    if (tables.second_moment.defined()) rows.second_moment = device.tensor({room});
    if (tables.last_update.defined()) rows.last_update = device.tensor({room}, Dtype::i64);
    return rows;
  }
  /// The first `count` of them.
  FetchedRows first(int64_t count) const {
    const auto part = [count](const Tensor& t) { return t.defined() ? t.rows(0, count) : t; };
    return {part(index), part(weight), part(momentum), part(second_moment), part(last_update)};
  }
};

/// Rows that are to be caught up where they lie if they missed more than `few` updates.
struct RowTurn {
  RowTile rows;     // but for lag.steps and lag.coasting:
  Tensor steps;     // (lag.next - lag.first, 4) fp32 on the host
  Tensor coasting;  // (lag.next - lag.first, 5) fp64 on the host; undefined where steps are all there is
  int64_t few = 0;
};

/// Calls come in this order: fetch, take, write_back, and again; the next fetch may come before or after write_back's
/// device work, and `settle` at any time but between take and write_back. These calls make the host wait for nothing
/// but the number of rows, which no work of a step holds up.
class RowBuffers {
 public:
  virtual ~RowBuffers() = default;
  /// Begins to bring in what the step after the one under way takes. Before, the rows of `turn`, if any, are caught up,
  /// but for those that the step under way has: these are up to date when they are written back - unless that step was
  /// skipped, so settle behind such a step first.
  virtual void fetch(SampledRows& rows, const RowTurn* turn) = 0;
  /// The rows that were fetched. What the device is given from now on may read and change them, until write_back.
  virtual FetchedRows take() = 0;
  /// Begins to write them back as they are in the device's order here.
  virtual void write_back() = 0;
  /// What the device is given from now on sees the tables with everything in them, and may change them where nothing
  /// has been fetched.
  virtual void settle() = 0;
};

/// For how many rows a buffer is made when `rows` come: the next step's number differs by chance. Where it is uniform,
/// hardly ever by more than eight deviations; knn's neighbours of a label come together, so theirs are wider.
inline int64_t row_buffer_room(int64_t rows) {
  return rows + static_cast<int64_t>(8 * std::sqrt(static_cast<double>(rows))) + 64;
}

}  // namespace plsc
