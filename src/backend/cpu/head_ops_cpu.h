// The head's passes on a CPU.
#pragma once
#include <memory>

#include "backend/device.h"
#include "backend/head_ops.h"
#include "kernels/math/step_state.h"

namespace plsc {

/// `device` lends the memory; it and the step's state must outlive the ops.
std::unique_ptr<HeadOps> make_cpu_head_ops(Device& device, math::StepState* state);

}  // namespace plsc
