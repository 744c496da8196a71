// Pooling on a GPU.
#pragma once
#include <memory>

#include "backend/cuda/vendor_handles.h"
#include "backend/nn_ops.h"

namespace plsc {

/// The runtime outlives the op.
std::unique_ptr<PoolOp> make_cuda_pool(CudaRuntime& runtime, const PoolSpec& spec);

}  // namespace plsc
