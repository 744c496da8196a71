// Max and average pooling on the device. Gradients are gathered, each by the input element that it belongs to, in an
// order that the shape alone decides.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace plsc::kernels::cuda {

/// Windows over (images, height, width, channels). Each covers at least one element of the image; width * channels is
/// below 2^31.
struct PoolShape {
  int64_t images = 0, height = 0, width = 0, channels = 0;
  int64_t kernel_h = 0, kernel_w = 0, stride = 0, pad = 0;
  int64_t out_height = 0, out_width = 0;
};

/// The most elements of a window whose maximum is looked for: their places are kept in bytes.
inline constexpr int64_t kMostPlaces = 256;

/// T: float, __nv_bfloat16 or __half. `place`, of y's shape, keeps which element of its window each maximum was: the
/// first of equal ones. A NaN in a window is its maximum.
template <class T>
void max_pool(const PoolShape& shape, const T* x, T* y, uint8_t* place, cudaStream_t stream);
template <class T>
void max_pool_backward(const PoolShape& shape, const T* dy, const uint8_t* place, T* dx, cudaStream_t stream);

/// The mean of those elements of a window that lie in the image.
template <class T>
void average_pool(const PoolShape& shape, const T* x, T* y, cudaStream_t stream);
template <class T>
void average_pool_backward(const PoolShape& shape, const T* dy, T* dx, cudaStream_t stream);

}  // namespace plsc::kernels::cuda
