// From decoded bytes to the network's input.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace plsc::kernels::cuda {

inline constexpr int kMostChannels = 3;

/// Images (images, height, width, channels) of bytes. All pointers are device memory.
struct ImageBatch {
  const uint8_t* bytes = nullptr;
  const uint8_t* flip = nullptr;  // (images): mirror left-right where it is not 0; null: none
  int64_t images = 0, height = 0, width = 0;
  int channels = 0;  // 1 to kMostChannels; a row of an image has less than 2^31 bytes
  float mean[kMostChannels] = {}, std[kMostChannels] = {};
};

/// y, of the images' shape: math::normalized. 4 or 8 elements an access where a row's length and the addresses allow.
void normalize_images(const ImageBatch& batch, float* y, cudaStream_t stream);
void normalize_images(const ImageBatch& batch, __nv_bfloat16* y, cudaStream_t stream);
void normalize_images(const ImageBatch& batch, __half* y, cudaStream_t stream);

}  // namespace plsc::kernels::cuda
