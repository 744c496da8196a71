// Rows in one tensor, read as they lie.
#pragma once
#include "backend/row_source.h"
#include "tensor/tensor.h"

namespace plsc {

/// Of a tensor (n, D) fp32 in the device's memory.
class TensorRows final : public RowSource {
 public:
  explicit TensorRows(const Tensor& rows) : rows_(rows) {}
  int64_t count() const override { return rows_.dim(0); }
  int64_t columns() const override { return rows_.dim(1); }
  RowTile open(int64_t begin, int64_t count, RowAccess) override {
    RowTile tile;
    tile.begin = begin;
    tile.count = count;
    tile.weight = rows_.rows(begin, count).raw();
    return tile;
  }
  void close(const RowTile&, RowAccess) override {}

 private:
  Tensor rows_;
};

}  // namespace plsc
