// The accounts of a memory that is not there: it hands out addresses that nobody may look at, by the rules of the
// device that is played. A CPU's blocks are of size classes and kept by class (backend/cpu/block_cache.h); a GPU's are
// an arena's, by its own text (backend/arena.h), with as much memory below as it asks for. Not safe from several
// threads.
#pragma once
#include <memory>

#include "backend/arena.h"

namespace plsc {

/// Where addresses begin: in no program's memory, so that whoever looks at one is stopped.
inline constexpr uintptr_t kFirstDryAddress = uintptr_t{1} << 52;

class DryMemory {
 public:
  virtual ~DryMemory() = default;
  virtual void* allocate(size_t bytes) = 0;
  /// `bytes` is what was asked for.
  virtual void release(void* data, size_t bytes) noexcept = 0;
  virtual void trim() = 0;
  virtual DeviceMemory counts() const = 0;
  /// Bytes that the process has at the most. Of a CPU those that somebody would have written to: its blocks are larger
  /// than what was asked for, and the system gives pages to those that are touched alone. Of a GPU its blocks at the
  /// peak: what the arena keeps beyond them it gives back where there is no more, but for the memory of recordings.
  virtual size_t resident() const = 0;
  /// A GPU's; null where a CPU is played.
  virtual Arena* arena() { return nullptr; }
};

std::unique_ptr<DryMemory> make_dry_memory(DeviceKind kind);

}  // namespace plsc
