#include "backend/dry/dry_memory.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <vector>

#include "backend/cpu/block_cache.h"

namespace plsc {
namespace {

class DryBlocks final : public DryMemory {
 public:
  void* allocate(size_t bytes) override {
    const size_t size = BlockCache::size_class(bytes);
    size_t touched_before = 0;
    // A block is used again for its own size class alone.
    if (std::vector<size_t>& free = free_[size]; !free.empty()) {
      touched_before = free.back();
      free.pop_back();
    } else {
      reserved_ += size;
    }
    const size_t now = std::max(touched_before, touched(bytes, size));
    resident_ += now - touched_before;
    void* data = reinterpret_cast<void*>(next_);
    next_ += size;
    touched_.emplace(data, now);
    in_use_ += size;
    peak_ = std::max(peak_, in_use_);
    most_ = std::max(most_, reserved_);
    most_resident_ = std::max(most_resident_, resident_);
    return data;
  }

  void release(void* data, size_t bytes) noexcept override {
    const size_t size = BlockCache::size_class(bytes);
    const auto found = touched_.find(data);
    in_use_ -= size;
    free_[size].push_back(found->second);
    touched_.erase(found);
  }

  void trim() override {
    for (const auto& [size, blocks] : free_) {
      reserved_ -= size * blocks.size();
      resident_ -= std::accumulate(blocks.begin(), blocks.end(), size_t{0});
    }
    free_.clear();
  }

  DeviceMemory counts() const override { return {in_use_, peak_, reserved_, most_}; }
  size_t resident() const override { return most_resident_; }

 private:
  /// Large blocks lie on huge pages where the system has them.
  static size_t touched(size_t bytes, size_t block) {
    const size_t page = block >= BlockCache::kLargeBlock ? BlockCache::kHugePage : 1;
    return std::min(block, (bytes + page - 1) / page * page);
  }

  uintptr_t next_ = kFirstDryAddress;
  std::map<void*, size_t> touched_;             // of blocks in use, by all that they have been handed out for so far
  std::map<size_t, std::vector<size_t>> free_;  // the same of the free blocks of a size
  size_t in_use_ = 0, peak_ = 0, reserved_ = 0, most_ = 0, resident_ = 0, most_resident_ = 0;
};

/// A device that never has too little.
class EndlessSegments final : public SegmentSource {
 public:
  void* take(size_t bytes) override {
    void* data = reinterpret_cast<void*>(next_);
    next_ += (bytes / Arena::kSmallSegment + 1) * Arena::kSmallSegment;
    return data;
  }
  void give_back(void*) noexcept override {}
  Room room() const override { return {}; }

 private:
  uintptr_t next_ = kFirstDryAddress;
};

class DryArena final : public DryMemory {
 public:
  void* allocate(size_t bytes) override { return arena_.allocate(bytes); }
  void release(void* data, size_t) noexcept override { arena_.release(data); }
  void trim() override { arena_.trim(); }
  DeviceMemory counts() const override { return arena_.memory(); }
  size_t resident() const override { return arena_.memory().peak; }
  Arena* arena() override { return &arena_; }

 private:
  Arena arena_{std::make_unique<EndlessSegments>(), {0, [] {}}};
};

}  // namespace

std::unique_ptr<DryMemory> make_dry_memory(DeviceKind kind) {
  if (kind == DeviceKind::cuda) return std::make_unique<DryArena>();
  return std::make_unique<DryBlocks>();
}

}  // namespace plsc
