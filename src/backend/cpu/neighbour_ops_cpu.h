// The search for nearest rows on a CPU.
#pragma once
#include <memory>

#include "backend/device.h"
#include "backend/neighbour_ops.h"

namespace plsc {

/// `device` lends the memory and must outlive the ops, and these their searches.
std::unique_ptr<NeighbourOps> make_cpu_neighbour_ops(Device& device);

}  // namespace plsc
