// Writing what is chosen behind one another, in the order of the indices: how many there are before each piece, and
// before each thread. Device code alone: only .cu files include this.
#pragma once
#include "kernels/cuda/device.h"

namespace plsc::kernels::cuda {

/// Counts of pieces become the sums of those before; returns the sum of all. All threads of one block of kThreads call
/// it; it contains barriers.
__device__ inline int64_t scan_counts(int64_t* counts, int64_t pieces) {
  __shared__ int64_t before[kThreads + 1];
  // Each thread has a run of the counts.
  const int64_t run = (pieces + kThreads - 1) / kThreads;
  const int64_t begin = run * threadIdx.x, end = begin + run < pieces ? begin + run : pieces;
  int64_t sum = 0;
  for (int64_t i = begin; i < end; ++i) sum += counts[i];
  __syncthreads();  // until here the threads of an earlier call may still read
  before[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    int64_t all = 0;
    for (int t = 0; t < kThreads; ++t) {
      const int64_t here = before[t];
      before[t] = all;
      all += here;
    }
    before[kThreads] = all;
  }
  __syncthreads();
  int64_t offset = before[threadIdx.x];
  for (int64_t i = begin; i < end; ++i) {
    const int64_t here = counts[i];
    counts[i] = offset;
    offset += here;
  }
  return before[kThreads];
}

/// How many flags are set in the block's threads before this one, and in all of them.
struct Place {
  int before = 0, all = 0;
};

/// Of flags in the lowest kFlags bits of `flags`. All threads of a block of kThreads call it; it contains barriers.
template <int kFlags>
__device__ inline Place place_in_block(unsigned flags) {
  constexpr int kWarps = kThreads / kWarp;
  __shared__ int of_warp[kWarps];
  const unsigned lower_lanes = (1U << lane_id()) - 1;
  Place place;
  int in_warp = 0;
  for (int k = 0; k < kFlags; ++k) {
    const unsigned lanes = __ballot_sync(kAllLanes, static_cast<int>(flags >> k & 1));
    place.before += __popc(lanes & lower_lanes);
    in_warp += __popc(lanes);
  }
  if (lane_id() == 0) of_warp[warp_id()] = in_warp;
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp_id()) place.before += of_warp[w];
    place.all += of_warp[w];
  }
  __syncthreads();  // read before the next call writes it
  return place;
}

}  // namespace plsc::kernels::cuda
