// The stand-in for the vendor's CUDA libraries: a device on the CPU, for tests alone. It defines the very symbols of
// the CUDA runtime, cuBLASLt, cuDNN and NCCL that the product calls, so that an executable linked to it runs the
// product's own objects. Streams are queues whose work runs late, in any order that streams and events allow, chosen
// under a seed: a missing wait shows as a wrong number. A misuse ends the process with a sentence.
// This header is what its parts share (queueing work, memory, complaints) and what tests may ask and set.
#pragma once
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>

namespace plsc::standin {

/// Queues `work` behind everything that `stream` was given. Inside a stream capture it becomes a node of the graph, and
/// each launch runs its own copy of `work`. It must not call CUDA, and runs on any thread, but never beside other work.
void enqueue(cudaStream_t stream, std::string name, std::function<void()> work);
/// The same for work that may have to be tried again (a collective that other ranks have not reached): `attempt`
/// returns true once it is complete, and must return soon in any case.
void enqueue_polled(cudaStream_t stream, std::string name, std::function<bool()> attempt);

/// Whether [p, p + bytes) lies inside one live allocation of device memory (nothing lies anywhere).
bool is_device_memory(const void* p, size_t bytes);

/// Ends the process, or throws where a test asked for it: the caller broke a rule that the vendor's documentation
/// states.
[[noreturn]] void misuse_text(const std::string& what);
template <class... Args>
[[noreturn]] void misuse(fmt::format_string<Args...> format, Args&&... args) {
  misuse_text(fmt::format(format, std::forward<Args>(args)...));
}

/// What misuse() throws while a ThrowMisuse lives; what a piece of work threw that ran by itself, the next call throws.
struct Misuse : std::runtime_error {
  using std::runtime_error::runtime_error;
};
class ThrowMisuse {
 public:
  ThrowMisuse();
  ~ThrowMisuse();
  ThrowMisuse(const ThrowMisuse&) = delete;
  ThrowMisuse& operator=(const ThrowMisuse&) = delete;
};

/// One rank's NCCL fails at its call `call` (counted from 1 over the process's communicators).
struct NcclFault {
  enum class Kind { error, hang };
  Kind kind = Kind::error;
  int rank = 0;
  int64_t call = 1;
};

/// The machine that is played. Read once from the environment (names in parentheses); tests may set it anew, which
/// also starts the random choices again.
struct Options {
  int devices = 1;                     // PLSC_STANDIN_DEVICES; CUDA_VISIBLE_DEVICES chooses among them
  bool old_driver = false;             // PLSC_STANDIN_DEVICES=old-driver
  std::optional<std::string> visible;  // CUDA_VISIBLE_DEVICES, a list of numbers
  int capability_major = 9;            // PLSC_STANDIN_CAPABILITY, as "9.0"
  int capability_minor = 0;
  size_t memory = size_t{2} << 30;      // PLSC_STANDIN_MEMORY of each device, as "64MiB"
  uint64_t seed = 1;                    // PLSC_STANDIN_SEED
  int idle_ms = 20;                     // PLSC_STANDIN_IDLE_MS without a call, until work runs by itself; < 0: never
  bool check_guards = false;            // PLSC_STANDIN_GUARDS=1: after each piece of work, so that the guilty is named
  bool protect = true;                  // PLSC_STANDIN_PROTECT=0: a host that touches device memory does not crash
  bool report_leaks = false;            // PLSC_STANDIN_LEAKS=1: device memory that is live at the process's exit
  std::optional<NcclFault> nccl_fault;  // PLSC_STANDIN_NCCL, as "error:rank=1:call=10" or "hang:rank=1:call=10"
};
Options options();
void set_options(const Options& options);

/// What happened in this process so far. At exit it is written as JSON to the file NAME.PID.json where
/// PLSC_STANDIN_COUNTERS says NAME.
struct Counters {
  int64_t device_allocations = 0;  // cudaMalloc
  int64_t pinned_allocations = 0;  // cudaMallocHost, cudaHostAlloc
  int64_t synchronisations =
      0;                        // calls that make the host wait, cudaFree and copies from device to pageable memory too
  int64_t queries = 0;          // cudaStreamQuery, cudaEventQuery
  int64_t bytes_to_device = 0;  // by copies from the host that were queued (a replay of a graph counts again)
  int64_t bytes_to_host = 0;
  int64_t kernels = 0;  // pieces of work run that enqueue() was given
  int64_t graph_launches = 0;
  int64_t collectives = 0;  // of NCCL, completed
};
Counters counters();

/// Bytes of device memory that are allocated now, on all devices.
int64_t live_device_bytes();

}  // namespace plsc::standin
