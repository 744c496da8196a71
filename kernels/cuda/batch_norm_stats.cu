// Batch norm's statistics: two kernels, one that leaves partial sums and one that merges them.
#include "kernels/cuda/batch_norm.h"
#include "kernels/cuda/norm_sums.h"

namespace plsc::kernels::cuda {
namespace {

constexpr int kMostSums = 3;  // of a channel: the backward pass has that of the slope, too

/// The most blocks that any vector width gives.
int64_t most_blocks(const NormShape& shape) {
  int64_t most = 0;
  for (const int vector : {1, 4, 8}) {
    if (shape.channels % vector == 0) most = std::max(most, norm_sum_strips(shape, vector).blocks);
  }
  return most;
}

template <class T, int kVector>
__global__ void __launch_bounds__(kThreads, 2) sums_kernel(const T* x, Strips strips, MeasureScratch scratch) {
  const Lane lane = lane_of<kVector>(strips);
  ChannelSums<2, kVector> sums;
  if (lane.active) {
    const auto load = [&](int64_t at) {
      Pack<T, kVector> pack;
      pack.load(x + at);
      return pack;
    };
    Pivot<kVector> pivot;
    pivot.set(load(lane.column));
    if (lane.row == 0) pivot.write(scratch, lane.column);
    for_rows<4>(
        strips, lane, load, [&](const Pack<T, kVector>& row, int64_t) { pivot.add(row, sums); },
        [&] { sums.end_of_group(); });
  }
  sums.write(strips, lane, scratch.partials);
}

__global__ void merge_kernel(Strips strips, MeasureScratch scratch, double* sums) {
  const auto rows = static_cast<double>(strips.rows);
  merge_partials<2>(scratch.partials, strips.blocks, strips.channels, [&](int64_t c, const double* away) {
    // Sum of (p + d) and of (p + d)^2.
    const double pivot = scratch.pivot[c];
    sums[c] = away[0] + rows * pivot;
    sums[strips.channels + c] = away[1] + pivot * (2.0 * away[0] + rows * pivot);
  });
}

template <int kVector, class T>
void sums_by(const NormShape& shape, const T* x, const MeasureScratch& scratch, double* sums, cudaStream_t stream) {
  const Strips strips = norm_sum_strips(shape, kVector);
  launch(sums_kernel<T, kVector>, strips.grid(), stream, x, strips, scratch);
  merge_measures(strips, scratch, sums, stream);
}

}  // namespace

MeasureScratch::MeasureScratch(double* scratch, const NormShape& shape)
    : partials(scratch), pivot(scratch + most_blocks(shape) * 2 * shape.channels) {}

void merge_measures(const Strips& strips, const MeasureScratch& scratch, double* sums, cudaStream_t stream) {
  launch(merge_kernel, merge_grid(strips.channels), stream, strips, scratch, sums);
}

int64_t norm_scratch(const NormShape& shape) { return (most_blocks(shape) * kMostSums + 1) * shape.channels; }

template <class T>
void column_sums(const NormShape& shape, const T* x, double* scratch, double* sums, cudaStream_t stream) {
  const MeasureScratch parts(scratch, shape);
  if (vectors_fit<T>(shape, {x})) return sums_by<kPerVec<T>>(shape, x, parts, sums, stream);
  sums_by<1>(shape, x, parts, sums, stream);
}

template void column_sums(const NormShape&, const float*, double*, double*, cudaStream_t);
template void column_sums(const NormShape&, const __nv_bfloat16*, double*, double*, cudaStream_t);
template void column_sums(const NormShape&, const __half*, double*, double*, cudaStream_t);

}  // namespace plsc::kernels::cuda
