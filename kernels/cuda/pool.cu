#include "kernels/cuda/pool.h"

#include "kernels/cuda/pack.h"

namespace plsc::kernels::cuda {
namespace {

/// [begin, end)
struct Range {
  int begin = 0, end = 0;
  __device__ int size() const { return end - begin; }
};

/// Which of `length` elements lie under window `window`.
__device__ __forceinline__ Range elements_under(int64_t window, int64_t length, int64_t kernel, const PoolShape& s) {
  const int64_t first = window * s.stride - s.pad, last = first + kernel;
  return {static_cast<int>(first < 0 ? 0 : first), static_cast<int>(last < length ? last : length)};
}
/// Which of `windows` windows lie over element `at`.
__device__ __forceinline__ Range windows_over(int64_t at, int64_t windows, int64_t kernel, const PoolShape& s) {
  const int64_t from = at + s.pad, first = from < kernel ? 0 : (from - kernel) / s.stride + 1;
  const int64_t last = from / s.stride + 1;
  return {static_cast<int>(first), static_cast<int>(last < windows ? last : windows)};
}

/// Where a thread is: blocks walk over rows of pixels, and their threads over a row's vectors of channels.
struct Pixel {
  int64_t image = 0;
  int h = 0, w = 0;
  int column = 0;  // the first channel
};

/// visit(pixel) for every pixel of `rows` x `width` of each image, and every kVector channels.
template <int kVector, class Visit>
__device__ __forceinline__ void for_pixels(const PoolShape& s, int64_t height, int64_t width, const Visit& visit) {
  const int vectors = static_cast<int>(s.channels / kVector), row_vectors = static_cast<int>(width) * vectors;
  for (int64_t row = blockIdx.x; row < s.images * height; row += gridDim.x) {
    for (int i = static_cast<int>(threadIdx.x); i < row_vectors; i += static_cast<int>(blockDim.x)) {
      const int w = i / vectors;
      visit(Pixel{row / height, static_cast<int>(row % height), w, (i - w * vectors) * kVector});
    }
  }
}

__device__ __forceinline__ int64_t in_x(const PoolShape& s, const Pixel& p, int h, int w) {
  return ((p.image * s.height + h) * s.width + w) * s.channels + p.column;
}
__device__ __forceinline__ int64_t in_y(const PoolShape& s, const Pixel& p, int h, int w) {
  return ((p.image * s.out_height + h) * s.out_width + w) * s.channels + p.column;
}

template <class T, int kVector>
__global__ void max_kernel(PoolShape s, const T* x, T* y, uint8_t* place) {
  for_pixels<kVector>(s, s.out_height, s.out_width, [&](const Pixel& p) {
    const Range rows = elements_under(p.h, s.height, s.kernel_h, s),
                columns = elements_under(p.w, s.width, s.kernel_w, s);
    const auto place_of = [&](int h, int w) {
      return static_cast<uint8_t>((h + s.pad - p.h * s.stride) * s.kernel_w + (w + s.pad - p.w * s.stride));
    };
    Pack<T, kVector> best;
    Vec<uint8_t, kVector> where;
    best.load(x + in_x(s, p, rows.begin, columns.begin));
    PLSC_UNROLL
    for (int i = 0; i < kVector; ++i) where[i] = place_of(rows.begin, columns.begin);
    for (int h = rows.begin; h < rows.end; ++h) {
      for (int w = columns.begin; w < columns.end; ++w) {
        Pack<T, kVector> here;
        here.load(x + in_x(s, p, h, w));
        PLSC_UNROLL
        for (int i = 0; i < kVector; ++i) {
          const float value = here.get(i);
          if (value <= best.get(i) || best.get(i) != best.get(i)) continue;  // a NaN is larger than all, and stays
          best[i] = here[i];
          where[i] = place_of(h, w);
        }
      }
    }
    const int64_t to = in_y(s, p, p.h, p.w);
    best.store(y + to);
    store_vec(place + to, where);
  });
}

template <class T, int kVector>
__global__ void max_backward_kernel(PoolShape s, const T* dy, const uint8_t* place, T* dx) {
  for_pixels<kVector>(s, s.height, s.width, [&](const Pixel& p) {
    const Range rows = windows_over(p.h, s.out_height, s.kernel_h, s);
    const Range columns = windows_over(p.w, s.out_width, s.kernel_w, s);
    float sum[kVector] = {};
    for (int oh = rows.begin; oh < rows.end; ++oh) {
      for (int ow = columns.begin; ow < columns.end; ++ow) {
        const int64_t from = in_y(s, p, oh, ow), h = p.h + s.pad - oh * s.stride, w = p.w + s.pad - ow * s.stride;
        const auto here = static_cast<uint8_t>(h * s.kernel_w + w);
        const auto where = load_vec<uint8_t, kVector>(place + from);
        Pack<T, kVector> g;
        g.load(dy + from);
        PLSC_UNROLL
        for (int i = 0; i < kVector; ++i) sum[i] += where[i] == here ? g.get(i) : 0.0f;
      }
    }
    Pack<T, kVector> out;
    PLSC_UNROLL
    for (int i = 0; i < kVector; ++i) out.set(i, sum[i]);
    out.store(dx + in_x(s, p, p.h, p.w));
  });
}

template <class T, int kVector>
__global__ void average_kernel(PoolShape s, const T* x, T* y) {
  for_pixels<kVector>(s, s.out_height, s.out_width, [&](const Pixel& p) {
    const Range rows = elements_under(p.h, s.height, s.kernel_h, s),
                columns = elements_under(p.w, s.width, s.kernel_w, s);
    float sum[kVector] = {};
    for (int h = rows.begin; h < rows.end; ++h) {
      for (int w = columns.begin; w < columns.end; ++w) {
        Pack<T, kVector> here;
        here.load(x + in_x(s, p, h, w));
        PLSC_UNROLL
        for (int i = 0; i < kVector; ++i) sum[i] += here.get(i);
      }
    }
    const float count = static_cast<float>(rows.size() * columns.size());
    Pack<T, kVector> out;
    PLSC_UNROLL
    for (int i = 0; i < kVector; ++i) out.set(i, sum[i] / count);
    out.store(y + in_y(s, p, p.h, p.w));
  });
}

template <class T, int kVector>
__global__ void average_backward_kernel(PoolShape s, const T* dy, T* dx) {
  for_pixels<kVector>(s, s.height, s.width, [&](const Pixel& p) {
    const Range rows = windows_over(p.h, s.out_height, s.kernel_h, s);
    const Range columns = windows_over(p.w, s.out_width, s.kernel_w, s);
    float sum[kVector] = {};
    for (int oh = rows.begin; oh < rows.end; ++oh) {
      for (int ow = columns.begin; ow < columns.end; ++ow) {
        const int count =
            elements_under(oh, s.height, s.kernel_h, s).size() * elements_under(ow, s.width, s.kernel_w, s).size();
        Pack<T, kVector> g;
        g.load(dy + in_y(s, p, oh, ow));
        PLSC_UNROLL
        for (int i = 0; i < kVector; ++i) sum[i] += g.get(i) / static_cast<float>(count);
      }
    }
    Pack<T, kVector> out;
    PLSC_UNROLL
    for (int i = 0; i < kVector; ++i) out.set(i, sum[i]);
    out.store(dx + in_x(s, p, p.h, p.w));
  });
}

template <class T>
bool vectors_fit(const PoolShape& s, const T* a, const T* b) {
  return s.channels % kPerVec<T> == 0 && is_vec_aligned(a) && is_vec_aligned(b);
}

/// A block a row of pixels: as many threads as the row has vectors, up to the usual number.
Grid row_grid(const PoolShape& s, int64_t height, int64_t width, int vector,
              const char* function = __builtin_FUNCTION()) {
  const int64_t warps = (width * s.channels / vector + kWarp - 1) / kWarp;
  Grid grid;
  grid.blocks = std::min(s.images * height, kManyBlocks);
  grid.threads = static_cast<int>(std::clamp<int64_t>(warps * kWarp, kWarp, kThreads));
  grid.function = function;
  return grid;
}

}  // namespace

template <class T>
void max_pool(const PoolShape& s, const T* x, T* y, uint8_t* place, cudaStream_t stream) {
  constexpr int kVector = kPerVec<T>;
  if (vectors_fit(s, x, y) && is_vec_aligned(place))
    return launch(max_kernel<T, kVector>, row_grid(s, s.out_height, s.out_width, kVector), stream, s, x, y, place);
  launch(max_kernel<T, 1>, row_grid(s, s.out_height, s.out_width, 1), stream, s, x, y, place);
}

template <class T>
void max_pool_backward(const PoolShape& s, const T* dy, const uint8_t* place, T* dx, cudaStream_t stream) {
  constexpr int kVector = kPerVec<T>;
  if (vectors_fit<T>(s, dy, dx) && is_vec_aligned(place))
    return launch(max_backward_kernel<T, kVector>, row_grid(s, s.height, s.width, kVector), stream, s, dy, place, dx);
  launch(max_backward_kernel<T, 1>, row_grid(s, s.height, s.width, 1), stream, s, dy, place, dx);
}

template <class T>
void average_pool(const PoolShape& s, const T* x, T* y, cudaStream_t stream) {
  constexpr int kVector = kPerVec<T>;
  if (vectors_fit<T>(s, x, y))
    return launch(average_kernel<T, kVector>, row_grid(s, s.out_height, s.out_width, kVector), stream, s, x, y);
  launch(average_kernel<T, 1>, row_grid(s, s.out_height, s.out_width, 1), stream, s, x, y);
}

template <class T>
void average_pool_backward(const PoolShape& s, const T* dy, T* dx, cudaStream_t stream) {
  constexpr int kVector = kPerVec<T>;
  if (vectors_fit<T>(s, dy, dx))
    return launch(average_backward_kernel<T, kVector>, row_grid(s, s.height, s.width, kVector), stream, s, dy, dx);
  launch(average_backward_kernel<T, 1>, row_grid(s, s.height, s.width, 1), stream, s, dy, dx);
}

template void max_pool(const PoolShape&, const float*, float*, uint8_t*, cudaStream_t);
template void max_pool(const PoolShape&, const __nv_bfloat16*, __nv_bfloat16*, uint8_t*, cudaStream_t);
template void max_pool(const PoolShape&, const __half*, __half*, uint8_t*, cudaStream_t);
template void max_pool_backward(const PoolShape&, const float*, const uint8_t*, float*, cudaStream_t);
template void max_pool_backward(const PoolShape&, const __nv_bfloat16*, const uint8_t*, __nv_bfloat16*, cudaStream_t);
template void max_pool_backward(const PoolShape&, const __half*, const uint8_t*, __half*, cudaStream_t);
template void average_pool(const PoolShape&, const float*, float*, cudaStream_t);
template void average_pool(const PoolShape&, const __nv_bfloat16*, __nv_bfloat16*, cudaStream_t);
template void average_pool(const PoolShape&, const __half*, __half*, cudaStream_t);
template void average_pool_backward(const PoolShape&, const float*, float*, cudaStream_t);
template void average_pool_backward(const PoolShape&, const __nv_bfloat16*, __nv_bfloat16*, cudaStream_t);
template void average_pool_backward(const PoolShape&, const __half*, __half*, cudaStream_t);

}  // namespace plsc::kernels::cuda
