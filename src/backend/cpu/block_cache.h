// Host memory that is kept and handed out again, so that a training step touches no new page after the first ones:
// a step asks for the same sizes every time, and fresh pages cost more than the arithmetic done on them.
#pragma once
#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

#include "backend/device.h"

namespace plsc {

/// Free blocks by size class (eight classes a doubling). Blocks are aligned to 64 bytes, large ones to huge pages.
/// Safe to call from several threads.
class BlockCache {
 public:
  static constexpr size_t kHugePage = size_t{2} << 20;
  static constexpr size_t kLargeBlock = size_t{4} << 20;  // from which on blocks lie on huge pages

  BlockCache() = default;
  ~BlockCache();
  BlockCache(const BlockCache&) = delete;
  BlockCache& operator=(const BlockCache&) = delete;

  /// Throws Error when the system has no memory left, even after the free blocks were given back. What the memory is
  /// for decides which key the error names.
  void* allocate(size_t bytes, MemoryUse use = MemoryUse::other);
  /// `bytes` is what was asked for.
  void release(void* data, size_t bytes) noexcept;
  /// Gives the free blocks back to the system.
  void trim() noexcept;

  size_t in_use() const;    // bytes handed out
  size_t peak() const;      // the most ever handed out
  size_t reserved() const;  // handed out and free
  size_t most() const;      // that was ever reserved

  /// The bytes of the block that a request is served from: at most an eighth more.
  static size_t size_class(size_t bytes);

 private:
  void trim_locked() noexcept;

  mutable std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;
  size_t in_use_ = 0, peak_ = 0, reserved_ = 0, most_ = 0;
};

}  // namespace plsc
