// The memory of recordings, where a device's memory is an arena's.
#pragma once
#include "backend/arena.h"

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

}  // namespace plsc
