#include "kernels/cuda/batch_norm.h"

#include "kernels/cuda/norm_columns.h"
#include "kernels/cuda/norm_sums.h"

namespace plsc::kernels::cuda {
namespace {

__device__ __forceinline__ float activate(NormActivation activation, float z, float slope) {
  if (activation == NormActivation::relu) return math::relu(z);
  if (activation == NormActivation::prelu) return math::prelu(z, slope);
  return z;
}

/// What a thread reads of one row.
template <class T, int kVector>
struct ForwardInput {
  Pack<T, kVector> x, residual;
};

template <class T, class Y, int kVector>
__device__ __forceinline__ ForwardInput<T, kVector> read_input(const NormForward<T, Y>& a, int64_t at) {
  ForwardInput<T, kVector> in{};
  in.x.load(a.x + at);
  if (a.residual != nullptr) in.residual.load(a.residual + at);
  return in;
}

template <class T, class Y, int kVector>
__device__ __forceinline__ Pack<Y, kVector> output_of(const NormForward<T, Y>& a, const NormColumns<kVector>& columns,
                                                      const ForwardInput<T, kVector>& in) {
  Pack<Y, kVector> y;
  PLSC_UNROLL
  for (int i = 0; i < kVector; ++i) {
    float z = columns.z(i, in.x.get(i));
    if (a.residual != nullptr) z += in.residual.get(i);
    y.set(i, activate(a.activation, z, columns.slope[i]));
  }
  return y;
}

template <class T, class Y, int kVector>
__global__ void __launch_bounds__(kThreads, 2) forward_kernel(NormForward<T, Y> a, Strips strips) {
  const Lane lane = lane_of<kVector>(strips);
  if (!lane.active) return;
  NormColumns<kVector> columns;
  columns.load(a.parameters, strips.channels, lane.column);
  for_rows<4>(
      strips, lane, [&](int64_t at) { return read_input<T, Y, kVector>(a, at); },
      [&](const ForwardInput<T, kVector>& in, int64_t at) { output_of(a, columns, in).store(a.y + at); }, [] {});
}

/// The same, and partial sums of y, of its values as they are stored.
template <class T, class Y, int kVector>
__global__ void __launch_bounds__(kThreads, 2)
    forward_sums_kernel(NormForward<T, Y> a, Strips strips, MeasureScratch scratch) {
  const Lane lane = lane_of<kVector>(strips);
  ChannelSums<2, kVector> sums;
  if (lane.active) {
    NormColumns<kVector> columns;
    columns.load(a.parameters, strips.channels, lane.column);
    Pivot<kVector> pivot;
    pivot.set(output_of(a, columns, read_input<T, Y, kVector>(a, lane.column)));
    if (lane.row == 0) pivot.write(scratch, lane.column);
    for_rows<2>(
        strips, lane, [&](int64_t at) { return read_input<T, Y, kVector>(a, at); },
        [&](const ForwardInput<T, kVector>& in, int64_t at) {
          const Pack<Y, kVector> y = output_of(a, columns, in);
          y.store(a.y + at);
          pivot.add(y, sums);
        },
        [&] { sums.end_of_group(); });
  }
  sums.write(strips, lane, scratch.partials);
}

template <int kVector, class T, class Y>
void forward_by(const NormForward<T, Y>& a, cudaStream_t stream) {
  const Strips strips = norm_strips(a.shape, kVector);
  launch(forward_kernel<T, Y, kVector>, strips.grid(), stream, a, strips);
}

template <int kVector, class T, class Y>
void forward_sums_by(const NormForward<T, Y>& a, cudaStream_t stream) {
  const Strips strips = norm_sum_strips(a.shape, kVector);
  const MeasureScratch scratch(a.scratch, a.shape);
  launch(forward_sums_kernel<T, Y, kVector>, strips.grid(), stream, a, strips, scratch);
  merge_measures(strips, scratch, a.sums, stream);
}

}  // namespace

template <class T, class Y>
void norm_forward(const NormForward<T, Y>& a, cudaStream_t stream) {
  const bool fit = vectors_fit<T>(a.shape, {a.x, a.residual, a.y});
  if (a.sums == nullptr) return fit ? forward_by<kPerVec<T>>(a, stream) : forward_by<1>(a, stream);
  // Four channels also of a half type: sums beside the parameters of eight would not fit into a thread's registers.
  return fit ? forward_sums_by<4>(a, stream) : forward_sums_by<1>(a, stream);
}

template void norm_forward(const NormForward<float, float>&, cudaStream_t);
template void norm_forward(const NormForward<__nv_bfloat16, __nv_bfloat16>&, cudaStream_t);
template void norm_forward(const NormForward<__nv_bfloat16, float>&, cudaStream_t);
template void norm_forward(const NormForward<__half, __half>&, cudaStream_t);
template void norm_forward(const NormForward<__half, float>&, cudaStream_t);

}  // namespace plsc::kernels::cuda
