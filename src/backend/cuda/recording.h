// Work that was captured once as a CUDA graph, with the memory that it uses, and can be launched again as a whole.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include "backend/cuda/arena.h"
#include "backend/device.h"

namespace plsc {

/// A capture of what `stream` is given while it lives. The mode is cudaStreamCaptureModeRelaxed: the stricter ones
/// forbid cudaMalloc meanwhile, which the arena may need while it fills the capture's pool, and there is no other
/// captured stream that such a call could disturb.
class Capture {
 public:
  Capture(cudaStream_t stream, Arena& arena);
  /// Throws away what was captured, unless `finish` was called.
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  /// Ends the capture. What it yields borrows `stream` and `arena`, which must outlive it.
  std::unique_ptr<Recording> finish();

 private:
  cudaStream_t stream_;
  Arena& arena_;
  int64_t pool_;
  bool open_ = true;
};

}  // namespace plsc
