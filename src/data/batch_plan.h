// Which positions of a step's global batch a rank holds.
#pragma once
#include <cstdint>
#include <vector>

#include "base/threads.h"

namespace plsc {

/// A contiguous run of positions of the global batch.
struct BatchSlice {
  int64_t first = 0, count = 0;
};

/// One slice a micro-batch: the global batch is cut into micro-batches, each of these over the ranks.
inline std::vector<BatchSlice> plan_slices(int64_t global_batch, int64_t micro_batches, int rank, int ranks) {
  std::vector<BatchSlice> slices;
  for (int64_t m = 0; m < micro_batches; ++m) {
    const int64_t begin = range_begin(global_batch, micro_batches, m);
    const int64_t size = range_begin(global_batch, micro_batches, m + 1) - begin;
    const int64_t first = range_begin(size, ranks, rank);
    slices.push_back({begin + first, range_begin(size, ranks, rank + 1) - first});
  }
  return slices;
}

}  // namespace plsc
