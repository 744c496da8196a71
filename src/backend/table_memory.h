// Host memory for tables that are larger than a device's own: see Device::table_memory.
#pragma once
#include "tensor/tensor.h"

namespace plsc {

/// For devices that read the host's memory as it is. Stateless, so one object serves all.
Allocator& host_table_memory();

}  // namespace plsc
