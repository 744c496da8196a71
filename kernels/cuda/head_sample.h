// Which classes take part in a step: the same set as kernels/cpu/head_rows.h's sampled_classes give, bit for bit. Two
// passes over the classes, so that nothing but the result is stored: the first counts, the second writes in order.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace plsc::kernels::cuda {

/// A class takes part when it is a positive or when its 32 key bits are below `limit`.
struct SampleClasses {
  uint64_t seed = 0;
  int64_t step = 0;
  uint64_t limit = 0;  // 2^32: all
  int64_t first_class = 0, classes = 0;
  const int64_t* positives = nullptr;  // (positive_count) rows (class - first_class), ascending
  int64_t positive_count = 0;
};

/// Blocks that the classes are cut into; each has a place in `counts`.
int64_t sample_blocks(const SampleClasses& sample);
/// counts (sample_blocks) = rows of each block that take part.
void count_samples(const SampleClasses& sample, int64_t* counts, cudaStream_t stream);
/// counts = the sum of those before each; total (1) = of all.
void scan_counts(int64_t* counts, int64_t blocks, int64_t* total, cudaStream_t stream);
/// rows (total), ascending. `offsets`: of scan_counts.
void write_samples(const SampleClasses& sample, const int64_t* offsets, int64_t* rows, cudaStream_t stream);

/// position[i] = the place of wanted[i] in `active` (ascending), -1 where it is not there or negative.
struct FindRows {
  const int64_t* active = nullptr;
  int64_t active_count = 0;
  const int64_t* wanted = nullptr;
  int64_t wanted_count = 0;
  int64_t* position = nullptr;
};
void find_rows(const FindRows& find, cudaStream_t stream);

}  // namespace plsc::kernels::cuda
