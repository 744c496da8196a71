// Sparse sums of gradients on a GPU.
#pragma once
#include <memory>

#include "backend/compress_ops.h"
#include "backend/cuda/cuda_device.h"
#include "kernels/math/step_state.h"

namespace plsc {

/// `state`, in the device's memory, and the device outlive the ops.
std::unique_ptr<CompressOps> make_cuda_compress_ops(CudaDevice& device, math::StepState* state);

}  // namespace plsc
