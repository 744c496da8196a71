// The linear layer on a GPU.
#pragma once
#include <memory>

#include "backend/cuda/vendor_handles.h"
#include "backend/nn_ops.h"

namespace plsc {

/// All fp32. `fixed_order` and gradients in fp64 are not offered. The runtime outlives the op.
std::unique_ptr<LinearOp> make_cuda_linear(CudaRuntime& runtime, const LinearSpec& spec);

}  // namespace plsc
