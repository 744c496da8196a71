// Work that was captured once as a CUDA graph, with the memory that it uses, and can be launched again as a whole.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include "backend/cuda/arena.h"
#include "backend/device.h"

namespace plsc {

/// A pool of the arena, which must outlive it.
class ArenaPool final : public RecordingMemory {
 public:
  explicit ArenaPool(Arena& arena) : arena_(arena), pool_(arena.make_pool()) {}
  /// Others may use it at once: they come later on the stream.
  ~ArenaPool() override { arena_.drop_pool(pool_); }
  ArenaPool(const ArenaPool&) = delete;
  ArenaPool& operator=(const ArenaPool&) = delete;

  void open() { arena_.open_pool(pool_); }
  void close() { arena_.end_pool(); }

 private:
  Arena& arena_;
  int64_t pool_;
};

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
