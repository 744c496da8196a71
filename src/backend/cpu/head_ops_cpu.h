// The margin head's passes on a CPU.
#pragma once
#include <memory>

#include "backend/device.h"
#include "backend/head_ops.h"

namespace plsc {

/// `device` lends the memory and must outlive the ops.
std::unique_ptr<HeadOps> make_cpu_head_ops(Device& device, int threads);

}  // namespace plsc
