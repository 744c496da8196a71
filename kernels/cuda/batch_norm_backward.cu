// Batch norm's backward pass: the sums of dz, and from them dx. z is computed again from x, or read off y.
#include "kernels/cuda/batch_norm.h"
#include "kernels/cuda/norm_columns.h"

namespace plsc::kernels::cuda {
namespace {

/// What a thread reads of one row: the residual or y where one of them is needed.
template <class T, class Y, int kVector>
struct BackwardInput {
  Pack<T, kVector> x, residual;
  Pack<Y, kVector> y, dy;
};

template <class T, class Y, int kVector>
__device__ __forceinline__ BackwardInput<T, Y, kVector> read_input(const NormGradient<T, Y>& a, int64_t at) {
  BackwardInput<T, Y, kVector> in{};
  in.x.load(a.x + at);
  in.dy.load(a.dy + at);
  if (a.residual != nullptr) in.residual.load(a.residual + at);
  if (a.y != nullptr) in.y.load(a.y + at);
  return in;
}

/// z of element i, or y, whose sign is the same.
template <class T, class Y, int kVector>
__device__ __forceinline__ float z_of(const NormGradient<T, Y>& a, const NormColumns<kVector>& columns,
                                      const BackwardInput<T, Y, kVector>& in, int i) {
  if (a.y != nullptr) return in.y.get(i);
  const float z = columns.z(i, in.x.get(i));
  return a.residual == nullptr ? z : z + in.residual.get(i);
}

__device__ __forceinline__ float dz_of(NormActivation activation, float z, float slope, float dy) {
  if (activation == NormActivation::relu) return math::relu_gradient(z, dy);
  if (activation == NormActivation::prelu) return math::prelu_gradient(z, slope, dy);
  return dy;
}

/// kSums: 2, or 3 with the slope's gradient.
template <class T, class Y, int kVector, int kSums>
__global__ void __launch_bounds__(kThreads, 2) sums_kernel(NormGradient<T, Y> a, Strips strips, double* partials) {
  using Input = BackwardInput<T, Y, kVector>;
  const Lane lane = lane_of<kVector>(strips);
  ChannelSums<kSums, kVector> sums;
  if (lane.active) {
    NormColumns<kVector> columns;
    columns.load(a.parameters, strips.channels, lane.column);
    for_rows<kVector == 8 ? 1 : 2>(
        strips, lane, [&](int64_t at) { return read_input<T, Y, kVector>(a, at); },
        [&](const Input& in, int64_t) {
          PLSC_UNROLL
          for (int i = 0; i < kVector; ++i) {
            const float z = z_of(a, columns, in, i), dy = in.dy.get(i);
            const float dz = dz_of(a.activation, z, columns.slope[i], dy);
            sums.template add<0>(i, dz);
            sums.template add<1>(i, dz * (in.x.get(i) - columns.mean[i]));
            if constexpr (kSums == 3) sums.template add<2>(i, math::prelu_slope_gradient(z, dy));
          }
        },
        [&] { sums.end_of_group(); });
  }
  sums.write(strips, lane, partials);
}

/// dslope: of each channel, or null.
template <int kSums>
__global__ void merge_kernel(Strips strips, const double* partials, const float* rstd, double* sums, double* dslope) {
  merge_partials<kSums>(partials, strips.blocks, strips.channels, [&](int64_t c, const double* total) {
    sums[c] = total[0];
    sums[strips.channels + c] = total[1] * static_cast<double>(rstd[c]);
    if constexpr (kSums == 3) dslope[c] = total[2];
  });
}

/// One block.
__global__ void total_kernel(const double* values, int64_t n, double* total) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += values[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total = sum;
}

template <int kVector, int kSums, class T, class Y>
void sums_by(const NormGradient<T, Y>& a, const NormSums& out, cudaStream_t stream) {
  const Strips strips = norm_sum_strips(a.shape, kVector);
  const int64_t channels = a.shape.channels;
  launch(sums_kernel<T, Y, kVector, kSums>, strips.grid(), stream, a, strips, out.scratch);
  double* behind = out.scratch + strips.blocks * kSums * channels;
  const bool total = kSums == 3 && a.parameters.shared_slope;
  launch(merge_kernel<kSums>, merge_grid(channels), stream, strips, out.scratch, a.parameters.mean_rstd + channels,
         out.sums, total ? behind : out.dslope);
  if (total) launch(total_kernel, {}, stream, behind, channels, out.dslope);
}

/// The means over the batch of a thread's channels: see math::NormMeans.
template <int kVector>
struct MeansOfChannels {
  math::NormMeans at[kVector];

  __device__ __forceinline__ void load(const double* sums, double per_row, const float* rstd, int64_t channels,
                                       int64_t column) {
    PLSC_UNROLL
    for (int i = 0; i < kVector; ++i) {
      if (per_row == 0) continue;
      const int64_t c = column + i;
      at[i].dz = static_cast<float>(sums[c] * per_row);
      at[i].slope = rstd[c] * static_cast<float>(sums[channels + c] * per_row);
    }
  }
};

/// `per_row` is 1 / count, or 0.
template <class T, class Y, int kVector>
__global__ void __launch_bounds__(kThreads, 2)
    backward_kernel(NormGradient<T, Y> a, NormOutputs<T> out, double per_row, Strips strips) {
  using Input = BackwardInput<T, Y, kVector>;
  const Lane lane = lane_of<kVector>(strips);
  if (!lane.active) return;
  NormColumns<kVector> columns;
  columns.load(a.parameters, strips.channels, lane.column);
  MeansOfChannels<kVector> means;
  means.load(out.sums, per_row, a.parameters.mean_rstd + strips.channels, strips.channels, lane.column);
  for_rows<kVector == 8 ? 1 : 2>(
      strips, lane, [&](int64_t at) { return read_input<T, Y, kVector>(a, at); },
      [&](const Input& in, int64_t at) {
        Pack<T, kVector> dx, dresidual, add{};
        if (out.add != nullptr) add.load(out.add + at);
        PLSC_UNROLL
        for (int i = 0; i < kVector; ++i) {
          const float dz = dz_of(a.activation, z_of(a, columns, in, i), columns.slope[i], in.dy.get(i));
          dresidual.set(i, dz);
          const float own = math::norm_gradient(in.x.get(i), columns.mean[i], columns.scale[i], dz, means.at[i]);
          dx.set(i, out.add == nullptr ? own : own + add.get(i));
        }
        dx.store(out.dx + at);
        if (out.dresidual != nullptr) dresidual.store(out.dresidual + at);
      },
      [] {});
}

template <int kVector, class T, class Y>
void backward_by(const NormGradient<T, Y>& a, const NormOutputs<T>& out, cudaStream_t stream) {
  const Strips strips = norm_strips(a.shape, kVector);
  launch(backward_kernel<T, Y, kVector>, strips.grid(), stream, a, out, out.count > 0 ? 1.0 / out.count : 0.0, strips);
}

template <class T, class Y>
bool inputs_fit(const NormGradient<T, Y>& a) {
  return vectors_fit<T>(a.shape, {a.x, a.residual, a.y, a.dy});
}

}  // namespace

template <class T, class Y>
void norm_backward_sums(const NormGradient<T, Y>& a, const NormSums& out, cudaStream_t stream) {
  const bool fit = inputs_fit(a);
  if (out.dslope == nullptr) return fit ? sums_by<kPerVec<T>, 2>(a, out, stream) : sums_by<1, 2>(a, out, stream);
  // Four channels also of a half type: three sums of eight channels would not fit into a thread's registers.
  return fit ? sums_by<4, 3>(a, out, stream) : sums_by<1, 3>(a, out, stream);
}

template <class T, class Y>
void norm_backward(const NormGradient<T, Y>& a, const NormOutputs<T>& out, cudaStream_t stream) {
  if (inputs_fit(a) && vectors_fit<T>(a.shape, {out.add, out.dx, out.dresidual}))
    return backward_by<kPerVec<T>>(a, out, stream);
  backward_by<1>(a, out, stream);
}

template void norm_backward_sums(const NormGradient<float, float>&, const NormSums&, cudaStream_t);
template void norm_backward_sums(const NormGradient<__nv_bfloat16, __nv_bfloat16>&, const NormSums&, cudaStream_t);
template void norm_backward_sums(const NormGradient<__nv_bfloat16, float>&, const NormSums&, cudaStream_t);
template void norm_backward_sums(const NormGradient<__half, __half>&, const NormSums&, cudaStream_t);
template void norm_backward_sums(const NormGradient<__half, float>&, const NormSums&, cudaStream_t);

template void norm_backward(const NormGradient<float, float>&, const NormOutputs<float>&, cudaStream_t);
template void norm_backward(const NormGradient<__nv_bfloat16, __nv_bfloat16>&, const NormOutputs<__nv_bfloat16>&,
                            cudaStream_t);
template void norm_backward(const NormGradient<__nv_bfloat16, float>&, const NormOutputs<__nv_bfloat16>&, cudaStream_t);
template void norm_backward(const NormGradient<__half, __half>&, const NormOutputs<__half>&, cudaStream_t);
template void norm_backward(const NormGradient<__half, float>&, const NormOutputs<__half>&, cudaStream_t);

}  // namespace plsc::kernels::cuda
