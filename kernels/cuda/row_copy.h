// Rows of class centres on their way between tables in host memory and buffers of the device: as they are stored, with
// the updates that each has taken. A warp takes a row.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace plsc::kernels::cuda {

/// Weights and momentum, one row behind the other; second_moment, null where the optimizer has none; and last_update,
/// null where nothing lags.
struct RowMemory {
  void* weight = nullptr;
  void* momentum = nullptr;
  float* second_moment = nullptr;
  int64_t* last_update = nullptr;
};

/// Rows of a table, ascending.
struct RowList {
  const int64_t* rows = nullptr;
  int64_t count = 0;
};

/// Of rows [0, list.count) of a buffer, row i is row list.rows[i] of the table.
struct RowCopy {
  RowList list;
  int64_t weight_bytes = 0, momentum_bytes = 0;  // of a row, even
  RowMemory table, buffer;
};
/// Table to buffer, but for rows that are in `except`.
void fetch_rows(const RowCopy& copy, const RowList& except, cudaStream_t stream);
/// Those that are: from `other`, the buffer of `except`.
void take_over_rows(const RowCopy& copy, const RowList& except, const RowMemory& other, cudaStream_t stream);
/// Buffer to table.
void write_back_rows(const RowCopy& copy, cudaStream_t stream);

}  // namespace plsc::kernels::cuda
