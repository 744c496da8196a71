// What a convolutional network needs, on a GPU.
#pragma once
#include <memory>

#include "backend/cuda/vendor_handles.h"
#include "backend/nn_ops.h"
#include "kernels/math/step_state.h"

namespace plsc {

/// `state` is in the device's memory; it and the runtime outlive the ops. Nothing is waited for.
std::unique_ptr<NnOps> make_cuda_nn_ops(CudaRuntime& runtime, const math::StepState* state);

}  // namespace plsc
