// Work that was captured once as a CUDA graph, with the memory that it uses, and can be launched again as a whole.
#pragma once
#include <cuda_runtime_api.h>

#include <memory>

#include "backend/arena_pool.h"
#include "backend/device.h"

namespace plsc {

/// A capture of what `stream` is given while it lives. The mode is cudaStreamCaptureModeRelaxed: the stricter ones
/// forbid cudaMalloc meanwhile, which the arena may need while it fills the capture's pool, and there is no other
/// captured stream that such a call could disturb.
class Capture {
 public:
  Capture(cudaStream_t stream, std::shared_ptr<ArenaPool> memory);
  /// Throws away what was captured, unless `finish` was called.
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  /// Ends the capture; null where nothing was given. What it yields borrows `stream`, which must outlive it.
  std::unique_ptr<Recording> finish();

 private:
  cudaStream_t stream_;
  std::shared_ptr<ArenaPool> memory_;
  bool open_ = true;
};

}  // namespace plsc
