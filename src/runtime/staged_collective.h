// Collectives on device memory without a library of the device's: through host memory, or within one rank.
#pragma once
#include <memory>

#include "backend/device.h"
#include "comm/collective.h"

namespace plsc {

/// Copies what is sent to host memory, runs `host_memory`'s collective there, and copies the result back. A start waits
/// for all that the device was given before. Slow beside NCCL, but several ranks may share a device. Both arguments
/// outlive the object; host tensors go straight to `host_memory`.
std::unique_ptr<Collective> make_staged_collective(Device& device, Collective& host_memory);

/// The world of one rank, for tensors of a device: a gather is a copy on the device, the rest is nothing.
std::unique_ptr<Collective> make_device_single_collective(Device& device);

}  // namespace plsc
