// Kernels over (rows, channels) matrices where what is read or summed is one value a channel: a thread keeps its few
// channels, with their parameters in registers, and walks down the rows. Threads of a block lie side by side over the
// channels, and where those are few, over several rows: neighbours always read neighbouring elements.
#pragma once
#include "kernels/cuda/pack.h"

namespace plsc::kernels::cuda {

/// How a matrix is cut into blocks: blockIdx.y is a strip of `width` vectors of channels, and in a strip the block's
/// lines of threads take turns over the rows.
struct Strips {
  int64_t rows = 0, channels = 0;
  int width = 1;  // vectors of channels
  int lines = 1;  // rows that a block is at
  int64_t blocks = 1, blocks_y = 1;

  Grid grid(const char* file = __builtin_FILE(), int line = __builtin_LINE(),
            const char* function = __builtin_FUNCTION()) const {
    return {
        .blocks = blocks, .blocks_y = blocks_y, .threads = kThreads, .file = file, .line = line, .function = function};
  }
};

/// Enough blocks that every thread has about `rows_a_thread` rows, and no more than `max_blocks` in all: rows beyond
/// that are walked over. `rows` and `channels` are above 0; `vector` divides channels.
inline Strips make_strips(int64_t rows, int64_t channels, int vector, int64_t rows_a_thread, int64_t max_blocks) {
  const auto divide_up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t vectors = channels / vector;
  Strips s;
  s.rows = rows;
  s.channels = channels;
  s.blocks_y = divide_up(vectors, kThreads);
  s.width = static_cast<int>(divide_up(vectors, s.blocks_y));
  s.lines = kThreads / s.width;
  s.blocks =
      std::clamp<int64_t>(divide_up(rows, s.lines * rows_a_thread), 1, std::max<int64_t>(max_blocks / s.blocks_y, 1));
  return s;
}

/// The channels and rows of one thread: [column, column + kVector), and row, row + step, ...
struct Lane {
  int64_t column = 0, row = 0, step = 0;
  int line = 0;
  bool active = false;  // threads that are left over stand at the barriers alone
};

template <int kVector>
__device__ __forceinline__ Lane lane_of(const Strips& s) {
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t vector = static_cast<int64_t>(blockIdx.y) * s.width + thread % s.width;
  Lane lane;
  lane.line = thread / s.width;
  lane.column = vector * kVector;
  lane.row = static_cast<int64_t>(blockIdx.x) * s.lines + lane.line;
  lane.step = static_cast<int64_t>(gridDim.x) * s.lines;
  lane.active = lane.line < s.lines && lane.column < s.channels;
  return lane;
}

/// Rows after which sums in fp32 move to double.
constexpr int kGroup = 8;

/// use(load(i)) for the element at which each of the lane's rows begins, with kBatch loads under way at once;
/// end_of_group() after at most kGroup rows.
template <int kBatch, class Load, class Use, class End>
__device__ __forceinline__ void for_rows(const Strips& s, const Lane& lane, const Load& load, const Use& use,
                                         const End& end_of_group) {
  static_assert(kGroup % kBatch == 0);
  if (!lane.active) return;
  const auto element = [&](int64_t row) { return row * s.channels + lane.column; };
  int64_t row = lane.row;
  int in_group = 0;
  for (; row + (kBatch - 1) * lane.step < s.rows; row += kBatch * lane.step) {
    decltype(load(row)) slots[kBatch];
    PLSC_UNROLL
    for (int k = 0; k < kBatch; ++k) slots[k] = load(element(row + k * lane.step));
    PLSC_UNROLL
    for (int k = 0; k < kBatch; ++k) use(slots[k], element(row + k * lane.step));
    in_group += kBatch;
    if (in_group < kGroup) continue;
    in_group = 0;
    end_of_group();
  }
  for (; row < s.rows; row += lane.step) use(load(element(row)), element(row));
  end_of_group();
}

/// kSums sums of each of a thread's channels: a few rows in fp32, in registers, then in double, in shared memory. What
/// that costs in precision is kGroup roundings of 2^-24, which do not grow with the number of rows; what it saves is
/// the doubles' arithmetic, 1/64 as fast as fp32's on most cards.
template <int kSums, int kVector>
class ChannelSums {
 public:
  /// All threads of the block call it.
  __device__ __forceinline__ ChannelSums() {
    // The block's one array for all its threads: (kSums, kVector, kThreads).
    __shared__ double totals[kSums * kVector * kThreads];
    mine_ = totals + threadIdx.x;
    PLSC_UNROLL
    for (int i = 0; i < kSums * kVector; ++i) mine_[i * kThreads] = 0;
  }
  template <int kSum>
  __device__ __forceinline__ void add(int i, float value) {
    group_[kSum][i] += value;
  }
  __device__ __forceinline__ void end_of_group() {
    PLSC_UNROLL
    for (int k = 0; k < kSums; ++k) {
      PLSC_UNROLL
      for (int i = 0; i < kVector; ++i) {
        mine_[(k * kVector + i) * kThreads] += static_cast<double>(group_[k][i]);
        group_[k][i] = 0;
      }
    }
  }
  /// Adds up the block's lines, always in the same order, and writes row blockIdx.x of `partials`, (blocks, kSums,
  /// channels). All threads of the block call it, once.
  __device__ __forceinline__ void write(const Strips& s, const Lane& lane, double* partials) {
    int half = 1;
    while (half < s.lines) half *= 2;
    for (int apart = half / 2; apart > 0; apart /= 2) {
      __syncthreads();
      if (!lane.active || lane.line >= apart || lane.line + apart >= s.lines) continue;
      for (int i = 0; i < kSums * kVector; ++i) mine_[i * kThreads] += mine_[i * kThreads + apart * s.width];
    }
    if (!lane.active || lane.line > 0) return;
    double* row = partials + static_cast<int64_t>(blockIdx.x) * kSums * s.channels + lane.column;
    for (int i = 0; i < kSums * kVector; ++i) row[i / kVector * s.channels + i % kVector] = mine_[i * kThreads];
  }

 private:
  double* mine_;
  float group_[kSums][kVector] = {};
};

/// A block adds up the partial sums of kMergeChannels channels with its other threads side by side over the blocks.
constexpr int kMergeChannels = 8;

/// use(channel, totals) once for each channel, from partials (blocks, kSums, channels), in a fixed order. All threads
/// of the block take part.
template <int kSums, class Use>
__device__ void merge_partials(const double* partials, int64_t blocks, int64_t channels, const Use& use) {
  __shared__ double lines[kSums * kThreads];
  constexpr int kLines = kThreads / kMergeChannels;
  const int thread = static_cast<int>(threadIdx.x), line = thread / kMergeChannels;
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * kMergeChannels; first < channels;
       first += static_cast<int64_t>(gridDim.x) * kMergeChannels) {
    const int64_t channel = first + thread % kMergeChannels;
    double sums[kSums] = {};
    if (channel < channels) {
      for (int64_t block = line; block < blocks; block += kLines) {
        PLSC_UNROLL
        for (int k = 0; k < kSums; ++k) sums[k] += partials[(block * kSums + k) * channels + channel];
      }
    }
    PLSC_UNROLL
    for (int k = 0; k < kSums; ++k) lines[k * kThreads + thread] = sums[k];
    __syncthreads();
    for (int apart = kLines / 2; apart > 0; apart /= 2) {
      if (line < apart) {
        PLSC_UNROLL
        for (int k = 0; k < kSums; ++k)
          lines[k * kThreads + thread] += lines[k * kThreads + thread + apart * kMergeChannels];
      }
      __syncthreads();
    }
    if (line == 0 && channel < channels) {
      PLSC_UNROLL
      for (int k = 0; k < kSums; ++k) sums[k] = lines[k * kThreads + thread];
      use(channel, sums);
    }
    __syncthreads();  // before the next channels take their place
  }
}

inline Grid merge_grid(int64_t channels, const char* file = __builtin_FILE(), int line = __builtin_LINE(),
                       const char* function = __builtin_FUNCTION()) {
  return {.blocks = blocks_for(channels, kMergeChannels),
          .threads = kThreads,
          .file = file,
          .line = line,
          .function = function};
}

}  // namespace plsc::kernels::cuda
