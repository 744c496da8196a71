// A thread draws for four classes at a time, because one draw has four keys; see head_sample.h.
#include "kernels/cuda/head_sample.h"

#include "kernels/cuda/ordered.h"
#include "kernels/cuda/selection.h"
#include "kernels/math/rng.h"

namespace plsc::kernels::cuda {
namespace {

constexpr int kWords = 4;       // keys of a draw: classes 4 g to 4 g + 3 share draw g
constexpr int64_t kTurns = 16;  // draws of a thread
constexpr int64_t kGroups = kTurns * kThreads;

/// Which of the four rows from `row` on take part, as bits.
__device__ unsigned taken(const SampleClasses& sample, int64_t group, int64_t row) {
  if (row >= sample.classes) return 0;
  const math::Random4 keys = math::random4(sample.seed, math::Draw::class_sample, static_cast<uint64_t>(sample.step),
                                           static_cast<uint64_t>(group));
  unsigned bits = 0;
  for (int k = 0; k < kWords; ++k) {
    if (row + k >= 0 && row + k < sample.classes && keys.x[k] < sample.limit) bits |= 1U << k;
  }
  const int64_t from = lower_bound(sample.positives, sample.positive_count, row);
  for (int64_t p = from; p < sample.positive_count && sample.positives[p] < row + kWords; ++p) {
    bits |= 1U << (sample.positives[p] - row);
  }
  return bits;
}
/// The draw of this thread in one turn of its block, and the row of its first class (below 0 where the shard begins
/// within the draw's classes).
__device__ int64_t group_of(const SampleClasses& sample, int64_t turn) {
  return sample.first_class / kWords + int64_t{blockIdx.x} * kGroups + turn * kThreads + threadIdx.x;
}

__global__ void count_kernel(SampleClasses sample, int64_t* counts) {
  int count = 0;
  for (int64_t turn = 0; turn < kTurns; ++turn) {
    const int64_t group = group_of(sample, turn);
    count += __popc(taken(sample, group, group * kWords - sample.first_class));
  }
  count = block_sum(count);
  if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

/// One block.
__global__ void scan_kernel(int64_t* counts, int64_t blocks, int64_t* total) {
  const int64_t all = scan_counts(counts, blocks);
  if (threadIdx.x == 0) *total = all;
}

__global__ void write_kernel(SampleClasses sample, const int64_t* offsets, int64_t* rows) {
  int64_t offset = offsets[blockIdx.x];
  for (int64_t turn = 0; turn < kTurns; ++turn) {
    const int64_t group = group_of(sample, turn), row = group * kWords - sample.first_class;
    const unsigned bits = taken(sample, group, row);
    const Place place = place_in_block<kWords>(bits);
    int64_t to = offset + place.before;
    for (int k = 0; k < kWords; ++k) {
      if (bits >> k & 1) rows[to++] = row + k;
    }
    offset += place.all;
  }
}

__global__ void find_kernel(FindRows find) {
  for (int64_t i = global_thread(); i < find.wanted_count; i += grid_threads()) {
    const int64_t row = find.wanted[i];
    find.position[i] = row < 0 ? -1 : place_of(find.active, find.active_count, row);
  }
}

}  // namespace

int64_t sample_blocks(const SampleClasses& sample) {
  const int64_t first = sample.first_class / kWords;
  const int64_t behind = (sample.first_class + sample.classes + kWords - 1) / kWords;
  return sample.classes == 0 ? 0 : (behind - first + kGroups - 1) / kGroups;
}

void count_samples(const SampleClasses& sample, int64_t* counts, cudaStream_t stream) {
  launch(count_kernel, {.blocks = sample_blocks(sample)}, stream, sample, counts);
}

void scan_counts(int64_t* counts, int64_t blocks, int64_t* total, cudaStream_t stream) {
  launch(scan_kernel, {.blocks = 1}, stream, counts, blocks, total);
}

void write_samples(const SampleClasses& sample, const int64_t* offsets, int64_t* rows, cudaStream_t stream) {
  launch(write_kernel, {.blocks = sample_blocks(sample)}, stream, sample, offsets, rows);
}

void find_rows(const FindRows& find, cudaStream_t stream) {
  launch(find_kernel, {.blocks = blocks_for(find.wanted_count, kThreads)}, stream, find);
}

}  // namespace plsc::kernels::cuda
