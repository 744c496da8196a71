// The optimizer's arithmetic on a GPU.
#pragma once
#include <memory>

#include "backend/cuda/cuda_device.h"
#include "backend/optim_ops.h"
#include "kernels/math/step_state.h"

namespace plsc {

/// `state`, in the device's memory, and the device outlive the ops. Gradients are fp32.
std::unique_ptr<OptimOps> make_cuda_optim_ops(CudaDevice& device, math::StepState* state);

}  // namespace plsc
