// A block a sample. A list and a handful of candidates become one sorted list by counting: an element's place is the
// number of those before it. Most rows fall to the threshold, the last of the list; see head_top.h.
#include "kernels/cuda/head_top.h"

#include <limits>

#include "kernels/cuda/launch.h"

namespace plsc::kernels::cuda {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

__global__ void start_kernel(TopLists lists) {
  for (int64_t i = global_thread(); i < lists.samples * lists.k; i += grid_threads()) {
    lists.cosines[i] = kMinusInfinity;
    lists.rows[i] = -1;
  }
}

/// Two lists in shared memory, one to read and one to write, and one row's cosine a thread.
struct Lists {
  int64_t* rows[2];
  float* cosines[2];
};

/// The list `from` and the threads' candidates become the list `to`. Candidates that are none are -inf. Rows of the
/// candidates come behind those of the list, and ascend with the thread: an equal one comes behind.
__device__ void merge(const Lists& lists, int from, int k, const float* candidates, int64_t first_row) {
  const int to = 1 - from, thread = static_cast<int>(threadIdx.x);
  for (int e = thread; e < k; e += kThreads) {
    const float cosine = lists.cosines[from][e];
    int place = e;
    for (int c = 0; c < kThreads; ++c) place += candidates[c] > cosine ? 1 : 0;
    if (place >= k) continue;
    lists.cosines[to][place] = cosine;
    lists.rows[to][place] = lists.rows[from][e];
  }
  const float cosine = candidates[thread];
  if (cosine == kMinusInfinity) return;
  int place = 0;
  for (int e = 0; e < k; ++e) place += lists.cosines[from][e] >= cosine ? 1 : 0;
  for (int c = 0; c < kThreads; ++c) {
    place += candidates[c] > cosine || (c < thread && candidates[c] == cosine) ? 1 : 0;
  }
  if (place >= k) return;
  lists.cosines[to][place] = cosine;
  lists.rows[to][place] = first_row + thread;
}

__global__ void merge_kernel(TopTile tile, TopLists all) {
  PLSC_DYNAMIC_SHARED(int64_t, memory);
  __shared__ float candidates[kThreads];
  __shared__ int found[2];
  const int k = static_cast<int>(all.k), thread = static_cast<int>(threadIdx.x);
  float* cosines = reinterpret_cast<float*>(memory + 2 * k);
  const Lists lists{{memory, memory + k}, {cosines, cosines + k}};
  for (int64_t sample = blockIdx.x; sample < all.samples; sample += gridDim.x) {
    int now = 0;
    for (int e = thread; e < k; e += kThreads) {
      lists.cosines[now][e] = all.cosines[sample * k + e];
      lists.rows[now][e] = all.rows[sample * k + e];
    }
    if (thread < 2) found[thread] = 0;
    for (int64_t first = 0, turn = 0; first < tile.rows; first += kThreads, turn = 1 - turn) {
      __syncthreads();
      if (thread == 0) found[1 - turn] = 0;
      const int64_t row = first + thread;
      float cosine = kMinusInfinity;
      const bool own = tile.without_own && tile.begin + row == tile.own_row + sample;
      if (row < tile.rows && !own) {
        const float raw = tile.dots[sample * tile.stride + row] * tile.inverse_norms[row];
        const float clamped = raw > tile.limit ? tile.limit : (raw < -tile.limit ? -tile.limit : raw);
        if (clamped > lists.cosines[now][k - 1]) cosine = clamped;
      }
      candidates[thread] = cosine;
      if (cosine != kMinusInfinity) atomicOr(reinterpret_cast<unsigned*>(&found[turn]), 1U);
      __syncthreads();
      if (found[turn] == 0) continue;
      merge(lists, now, k, candidates, tile.begin + first);
      now = 1 - now;
    }
    __syncthreads();
    for (int e = thread; e < k; e += kThreads) {
      all.cosines[sample * k + e] = lists.cosines[now][e];
      all.rows[sample * k + e] = lists.rows[now][e];
    }
    __syncthreads();
  }
}

}  // namespace

void start_top(const TopLists& lists, cudaStream_t stream) {
  launch(start_kernel, {.blocks = blocks_for(lists.samples * lists.k, kThreads)}, stream, lists);
}

void merge_top(const TopTile& tile, const TopLists& lists, cudaStream_t stream) {
  const auto shared = static_cast<size_t>(2 * lists.k) * (sizeof(int64_t) + sizeof(float));
  launch(merge_kernel, {.blocks = blocks_for(lists.samples, 1), .shared = shared}, stream, tile, lists);
}

}  // namespace plsc::kernels::cuda
