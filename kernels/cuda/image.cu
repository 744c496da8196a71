#include "kernels/cuda/image.h"

#include "kernels/cuda/device.h"
#include "kernels/math/pixel.h"

namespace plsc::kernels::cuda {
namespace {

/// What all rows have in common, by value.
struct RowShape {
  int64_t rows = 0, height = 0;
  int width = 0, channels = 0;
  float mean[kMostChannels] = {}, std[kMostChannels] = {};
};

/// N neighbouring bytes of the output row, from column `begin`: the row's own, or its pixels' in reverse order.
template <int N>
__device__ inline Vec<uint8_t, N> row_bytes(const uint8_t* row, const RowShape& shape, int begin, bool mirror) {
  if (!mirror) return load_vec<uint8_t, N>(row + begin);
  Vec<uint8_t, N> bytes;
  int channel = begin % shape.channels;
  int pixel = (shape.width - 1 - begin / shape.channels) * shape.channels;  // where it begins
  PLSC_UNROLL
  for (int k = 0; k < N; ++k) {
    bytes[k] = row[pixel + channel];
    if (++channel == shape.channels) {
      channel = 0;
      pixel -= shape.channels;
    }
  }
  return bytes;
}

/// A thread takes N neighbouring elements of a row, whose length is a multiple of N.
template <class T, int N>
__global__ void normalize_kernel(const uint8_t* bytes, const uint8_t* flip, RowShape shape, T* y) {
  constexpr int kStored = N < kPerVec<T> ? N : kPerVec<T>;  // elements of one store
  const int length = shape.width * shape.channels;
  const int per_row = length / N;
  for (int64_t i = global_thread(); i < shape.rows * per_row; i += grid_threads()) {
    const int64_t row = i / per_row;
    const int begin = static_cast<int>(i - row * per_row) * N;
    const bool mirror = flip != nullptr && flip[row / shape.height] != 0;
    const Vec<uint8_t, N> in = row_bytes<N>(bytes + row * length, shape, begin, mirror);
    int channel = begin % shape.channels;
    PLSC_UNROLL
    for (int at = 0; at < N; at += kStored) {
      Vec<T, kStored> out;
      PLSC_UNROLL
      for (int k = 0; k < kStored; ++k) {
        // Not by index: registers have none.
        const float mean = channel == 0 ? shape.mean[0] : channel == 1 ? shape.mean[1] : shape.mean[2];
        const float std = channel == 0 ? shape.std[0] : channel == 1 ? shape.std[1] : shape.std[2];
        out[k] = from_float<T>(math::normalized(in[at + k], mean, std));
        if (++channel == shape.channels) channel = 0;
      }
      store_vec(y + row * length + begin + at, out);
    }
  }
}

template <class T, int N>
void start(const ImageBatch& batch, const RowShape& shape, T* y, cudaStream_t stream) {
  const int64_t vectors = shape.rows * (static_cast<int64_t>(shape.width) * shape.channels / N);
  launch(normalize_kernel<T, N>, {.blocks = blocks_for(vectors, kThreads)}, stream, batch.bytes, batch.flip, shape, y);
}

template <class T>
void normalize(const ImageBatch& batch, T* y, cudaStream_t stream) {
  RowShape shape;
  shape.rows = batch.images * batch.height;
  shape.height = batch.height;
  shape.width = static_cast<int>(batch.width);
  shape.channels = batch.channels;
  for (int c = 0; c < kMostChannels; ++c) {
    shape.mean[c] = batch.mean[c];
    shape.std[c] = batch.std[c];
  }
  const auto allows = [&](int n) {
    return batch.width * batch.channels % n == 0 && reinterpret_cast<uintptr_t>(batch.bytes) % n == 0;
  };
  if (is_vec_aligned(y) && allows(8)) {
    start<T, 8>(batch, shape, y, stream);
  } else if (is_vec_aligned(y) && allows(4)) {
    start<T, 4>(batch, shape, y, stream);
  } else {
    start<T, 1>(batch, shape, y, stream);
  }
}

}  // namespace

void normalize_images(const ImageBatch& batch, float* y, cudaStream_t stream) { normalize(batch, y, stream); }
void normalize_images(const ImageBatch& batch, __nv_bfloat16* y, cudaStream_t stream) { normalize(batch, y, stream); }
void normalize_images(const ImageBatch& batch, __half* y, cudaStream_t stream) { normalize(batch, y, stream); }

}  // namespace plsc::kernels::cuda
