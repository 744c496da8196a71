// The stand-in for the vendor's CUDA libraries: a device on the CPU, for tests alone. It defines the very symbols of
// the CUDA runtime, cuBLASLt, cuDNN and NCCL that the product calls, so that an executable linked to it runs the
// product's own objects. Streams are queues whose work runs late, in any order that streams and events allow, chosen
// under a seed: a missing wait shows as a wrong number. A misuse ends the process with a sentence.
// This header is what its parts share: queueing work, memory, and complaints.
#pragma once
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <cstddef>
#include <functional>
#include <string>

namespace plsc::standin {

/// Queues `work` behind everything that `stream` was given. Inside a stream capture it becomes a node of the graph.
void enqueue(cudaStream_t stream, std::string name, std::function<void()> work);
/// The same for work that may have to be tried again (a collective that other ranks have not reached): `attempt`
/// returns true once it is complete, and must return soon in any case.
void enqueue_polled(cudaStream_t stream, std::string name, std::function<bool()> attempt);

/// Whether [p, p + bytes) lies inside one live allocation of device memory.
bool is_device_memory(const void* p, size_t bytes);

/// Ends the process: the caller broke a rule that the vendor's documentation states.
[[noreturn]] void misuse_text(const std::string& what);
template <class... Args>
[[noreturn]] void misuse(fmt::format_string<Args...> format, Args&&... args) {
  misuse_text(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace plsc::standin
