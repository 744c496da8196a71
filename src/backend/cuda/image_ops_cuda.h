// Input images on a GPU.
#pragma once
#include <memory>

#include "backend/cuda/cuda_device.h"
#include "backend/image_ops.h"

namespace plsc {

/// Bytes and flips may be in host memory, too: they are sent beside what the device works on. The device outlives the
/// ops.
std::unique_ptr<ImageOps> make_cuda_image_ops(CudaDevice& device);

}  // namespace plsc
