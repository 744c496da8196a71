#include "kernels/cuda/elementwise.h"

#include "kernels/cuda/pack.h"
#include "kernels/math/dropout.h"

namespace plsc::kernels::cuda {
namespace {

/// Elements of a thread and turn: 16 bytes of the narrower type, up to 32 of the other.
template <class A, class B>
constexpr int kStride = static_cast<int>(16 / std::min(sizeof(A), sizeof(B)));

/// The sum is made in the wider type.
__device__ __forceinline__ void add_to(float x, float& y) { y += x; }
__device__ __forceinline__ void add_to(double x, double& y) { y += x; }
__device__ __forceinline__ void add_to(double x, float& y) { y = static_cast<float>(static_cast<double>(y) + x); }

template <class From, class To>
__device__ __forceinline__ To converted(From value) {
  if constexpr (std::is_same_v<From, double>) {
    return static_cast<To>(value);
  } else {
    return from_float<To>(to_float(value));
  }
}

/// body(elements of x, elements of y) for `whole` vectors and then single elements; y is read where kReads.
template <bool kReads, class X, class Y, class Body>
__device__ __forceinline__ void for_elements(const X* x, Y* y, int64_t n, bool vectors, const Body& body) {
  constexpr int kCount = kStride<X, Y>;
  const int64_t whole = vectors ? n / kCount : 0;
  for (int64_t i = global_thread(); i < whole; i += grid_threads()) {
    Pack<X, kCount> from;
    Pack<Y, kCount> to;
    from.load(x + i * kCount);
    if constexpr (kReads) to.load(y + i * kCount);
    PLSC_UNROLL
    for (int k = 0; k < kCount; ++k) body(from[k], to[k]);
    to.store(y + i * kCount);
  }
  for (int64_t i = whole * kCount + global_thread(); i < n; i += grid_threads()) body(x[i], y[i]);
}

template <class X, class Y>
__global__ void add_kernel(const X* x, Y* y, int64_t n, bool vectors) {
  for_elements<true>(x, y, n, vectors, [](X value, Y& sum) { add_to(value, sum); });
}

template <class From, class To>
__global__ void cast_kernel(const From* from, To* to, int64_t n, bool vectors) {
  for_elements<false>(from, to, n, vectors, [](From value, To& out) { out = converted<From, To>(value); });
}

/// Four elements that share their random bits; those of them that are not ours are skipped.
template <class T>
__global__ void dropout_kernel(DropoutShape s, const math::StepState* state, const T* x, T* y) {
  const int64_t n = s.samples * s.features;
  const uint64_t first = static_cast<uint64_t>(state->in.first_sample) * static_cast<uint64_t>(s.features);
  const auto step = static_cast<uint64_t>(state->in.step), last = first + static_cast<uint64_t>(n);
  const float scale = 1.0f / (1.0f - s.p);
  const auto begin = static_cast<int64_t>(first % 4);  // elements of the first quad that come before ours
  for (int64_t quad = global_thread(); quad * 4 < begin + n; quad += grid_threads()) {
    const uint64_t g = (first / 4 + static_cast<uint64_t>(quad)) * 4;
    const math::Random4 bits = math::dropout_bits(s.seed, step, g);
    PLSC_UNROLL
    for (int k = 0; k < 4; ++k) {
      const uint64_t at = g + static_cast<uint64_t>(k);
      if (at < first || at >= last) continue;
      const uint64_t i = at - first;
      y[i] = from_float<T>(math::dropped(to_float(x[i]), bits.x[k], s.p, scale));
    }
  }
}

/// One launch for n elements of both arrays.
template <class X, class Y>
Grid flat_grid(int64_t n, const char* function = __builtin_FUNCTION()) {
  Grid grid;
  grid.blocks = blocks_for(n, kThreads, kStride<X, Y>);
  grid.threads = kThreads;
  grid.function = function;
  return grid;
}

}  // namespace

template <class X, class Y>
void add(const X* x, Y* y, int64_t n, cudaStream_t stream) {
  launch(add_kernel<X, Y>, flat_grid<X, Y>(n), stream, x, y, n, is_vec_aligned(x) && is_vec_aligned(y));
}

template <class From, class To>
void cast(const From* from, To* to, int64_t n, cudaStream_t stream) {
  launch(cast_kernel<From, To>, flat_grid<From, To>(n), stream, from, to, n,
         is_vec_aligned(from) && is_vec_aligned(to));
}

template <class T>
void dropout(const DropoutShape& shape, const math::StepState* state, const T* x, T* y, cudaStream_t stream) {
  const int64_t n = shape.samples * shape.features;
  if (n == 0) return;
  // One quad more than n has, where the first is not whole.
  launch(dropout_kernel<T>, {.blocks = blocks_for(n / 4 + 2, kThreads)}, stream, shape, state, x, y);
}

template void add(const float*, float*, int64_t, cudaStream_t);
template void add(const double*, double*, int64_t, cudaStream_t);
template void add(const double*, float*, int64_t, cudaStream_t);

template void cast(const float*, __nv_bfloat16*, int64_t, cudaStream_t);
template void cast(const float*, __half*, int64_t, cudaStream_t);
template void cast(const __nv_bfloat16*, float*, int64_t, cudaStream_t);
template void cast(const __nv_bfloat16*, __half*, int64_t, cudaStream_t);
template void cast(const __half*, float*, int64_t, cudaStream_t);
template void cast(const __half*, __nv_bfloat16*, int64_t, cudaStream_t);
template void cast(const double*, float*, int64_t, cudaStream_t);

template void dropout(const DropoutShape&, const math::StepState*, const float*, float*, cudaStream_t);
template void dropout(const DropoutShape&, const math::StepState*, const __nv_bfloat16*, __nv_bfloat16*, cudaStream_t);
template void dropout(const DropoutShape&, const math::StepState*, const __half*, __half*, cudaStream_t);

}  // namespace plsc::kernels::cuda
