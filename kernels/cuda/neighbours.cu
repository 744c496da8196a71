// See neighbours.h. A warp measures one query's candidates; a block sorts one list, each element's place being the
// number of those before it.
#include "kernels/cuda/neighbours.h"

#include "kernels/cuda/device.h"
#include "kernels/math/fixed_dot.h"

namespace plsc::kernels::cuda {
namespace {

static_assert(kWarp == math::kDotLanes);

__global__ void measure_kernel(MeasureBlock block, TopLists lists) {
  const int64_t warps = grid_threads() / kWarp;
  for (int64_t i = global_thread() / kWarp; i < lists.samples; i += warps) {
    const float* query = block.queries + i * block.columns;
    for (int64_t n = i * lists.k; n < (i + 1) * lists.k; ++n) {
      const int64_t row = lists.rows[n] - block.first_key;
      if (row < 0 || row >= block.key_count) continue;  // the same for the whole warp
      const float* key = block.keys + row * block.columns;
      float sum = 0;
      for (int64_t d = lane_id(); d < block.columns; d += kWarp) sum = math::add_product(sum, query[d], key[d]);
      sum = warp_sum(sum);
      if (lane_id() == 0) lists.cosines[n] = sum;
    }
  }
}

__global__ void sort_kernel(TopLists lists) {
  PLSC_DYNAMIC_SHARED(int64_t, rows);
  const int k = static_cast<int>(lists.k);
  float* cosines = reinterpret_cast<float*>(rows + k);
  for (int64_t i = blockIdx.x; i < lists.samples; i += gridDim.x) {
    for (int e = static_cast<int>(threadIdx.x); e < k; e += kThreads) {
      rows[e] = lists.rows[i * k + e];
      cosines[e] = lists.cosines[i * k + e];
    }
    __syncthreads();
    for (int e = static_cast<int>(threadIdx.x); e < k; e += kThreads) {
      int place = 0;
      for (int o = 0; o < k; ++o) {
        const bool tie = cosines[o] == cosines[e];
        // Places without a row are all alike: they keep their order.
        const bool lower = rows[o] != rows[e] ? rows[o] < rows[e] : o < e;
        place += cosines[o] > cosines[e] || (tie && lower) ? 1 : 0;
      }
      lists.rows[i * k + place] = rows[e];
      lists.cosines[i * k + place] = cosines[e];
    }
    __syncthreads();
  }
}

}  // namespace

void measure_candidates(const MeasureBlock& block, const TopLists& lists, cudaStream_t stream) {
  launch(measure_kernel, {.blocks = blocks_for(lists.samples * kWarp, kThreads)}, stream, block, lists);
}

void sort_candidates(const TopLists& lists, cudaStream_t stream) {
  const auto shared = static_cast<size_t>(lists.k) * (sizeof(int64_t) + sizeof(float));
  launch(sort_kernel, {.blocks = blocks_for(lists.samples, 1), .shared = shared}, stream, lists);
}

}  // namespace plsc::kernels::cuda
