// Collectives between GPUs by NCCL, for device memory. No vendor types here: only src/comm/nccl.cpp sees them.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "comm/collective.h"
#include "comm/wait.h"

namespace plsc {

/// The arithmetic of an all-reduce in bf16, on device memory and in the order of a stream (a cudaStream_t). Values are
/// 16-bit patterns (kernels/math/bf16.h).
struct NcclBf16Ops {
  /// to[i] = bf16(from[i]) for i < n, 0 up to `padded`.
  std::function<void(const float* from, int64_t n, uint16_t* to, int64_t padded, void* stream)> narrow;
  /// out[i] = bf16(((p_0[i] + p_1[i]) + ...) in fp32), with part r at parts + r * n.
  std::function<void(const uint16_t* parts, int ranks, int64_t n, uint16_t* out, void* stream)> sum;
  std::function<void(const uint16_t* from, float* to, int64_t n, void* stream)> widen;
};

struct NcclOptions {
  int device = 0;  // the GPU of this rank, its number among those that this process sees; no other rank may have it
  void* compute_stream = nullptr;  // the cudaStream_t that keeps the device's order
  WaitPolicy policy;
  NcclBf16Ops bf16;
};

/// What the host must look after beside the collectives themselves: `wait` does not block the host, so that a rank that
/// is missing shows only where the host waits for the device.
/// Max and min may lose a NaN on the way; a sum hands it on.
class NcclCollective : public Collective {
 public:
  /// Waits for the device: returns once `done` says true. Throws where NCCL reports an error, where another rank is
  /// gone, and TimeoutError where the oldest collective under way has made no progress for the policy's time. For
  /// Device::set_host_wait, which must be undone before this object ends.
  virtual void host_wait(const std::function<bool()>& done) = 0;
};

/// "2.28.9"; empty in a build without NCCL.
std::string nccl_version();
/// The same of the headers that this program was compiled with.
std::string nccl_built_version();

/// Called by all ranks of `host` together, which tells them NCCL's rendezvous, each with its device as the current one.
/// After any error the communicator is given up, so that no device waits for ever: then the run can only end, and
/// whatever is asked of the object throws that error again.
/// The compute stream must outlive the object. Throws Error where this build has no NCCL.
std::unique_ptr<NcclCollective> make_nccl_collective(const NcclOptions& options, Collective& host);

}  // namespace plsc
