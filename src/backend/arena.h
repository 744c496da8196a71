// The memory of one GPU, kept to be handed out again: to take memory of a GPU and to give it back stops the device, so
// after the first steps of a training neither is done. No vendor is called here (SegmentSource is what takes and gives
// back), so that a dry run keeps its accounts by this very text.
//
// Blocks are cut from segments of device memory: the smallest free block that is large enough, split where more than a
// grain is left; a released block joins its free neighbours. Small requests have segments of their own, so that they do
// not cut up the large ones.
//
// A released block may be handed out while the device still works on it, because everything that uses memory is ordered
// by the compute stream: whoever is handed the block comes later there. Collectives, uploads, the head's sampling
// and its row buffers, which use memory on other streams, keep to that by events: the compute stream waits for them
// before whatever was given to it next, and nobody releases memory before that wait was given, or before the host saw
// them done.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "backend/device.h"
#include "backend/memory_report.h"

namespace plsc {

/// Where segments come from. Addresses are the device's: the arena looks at nothing behind them.
class SegmentSource {
 public:
  /// Bytes of the device, to everybody.
  struct Room {
    size_t free = 0, total = 0;
  };
  virtual ~SegmentSource() = default;
  /// Aligned to Arena::kAlignment at least; null where the device has no such piece. Error where it fails otherwise.
  virtual void* take(size_t bytes) = 0;
  virtual void give_back(void* data) noexcept = 0;
  /// For the error that there is no more.
  virtual Room room() const = 0;
};

struct ArenaOptions {
  size_t limit = 0;  // most bytes that are taken from the device; 0: what it has
  /// Returns once nothing that was given to the device so far can still use a released block: called before memory is
  /// given back to it, never while a pool is open. May throw.
  std::function<void()> wait_idle;
};

/// Safe to call from several threads; those that may allocate have the device set.
class Arena {
 public:
  static constexpr size_t kAlignment = 256;
  static constexpr size_t kSmall = size_t{1} << 20;  // requests up to this are small
  static constexpr size_t kSmallSegment = size_t{2} << 20;
  static constexpr size_t kLargeSegment = size_t{32} << 20;  // at least, where the device has it

  Arena(std::unique_ptr<SegmentSource> source, ArenaOptions options);
  /// Gives all segments back: whoever still holds a block has outlived the device.
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// At least `bytes` bytes, aligned to kAlignment; never null. Where there are none, gives free segments back (but not
  /// while a pool is open) and tries again; then throws the Error of fail_out_of_memory.
  void* allocate(size_t bytes);
  void release(void* data) noexcept;
  /// Gives the segments that are wholly free back to the device. Waits for it. Not while a pool is open: giving back
  /// waits for the whole device, which breaks a capture.
  void trim();

  MemoryUse exchange_use(MemoryUse use);
  DeviceMemory memory() const;

  /// A pool of its own for work that will be run again and again in the same memory: while it is open, blocks come from
  /// it alone, and blocks that others had before and release meanwhile are kept for it. Nobody else is handed any of
  /// that before drop_pool, which makes it common memory. It may be opened many times, for parts that always run in
  /// this order: what one has released the next is handed. One pool at a time is open. Returns the pool's number.
  int64_t make_pool();
  int64_t begin_pool() {  // made and opened
    const int64_t pool = make_pool();
    open_pool(pool);
    return pool;
  }
  void open_pool(int64_t pool);
  void end_pool();
  void drop_pool(int64_t pool) noexcept;

 private:
  using FreeBlocks = std::set<std::pair<size_t, std::byte*>>;
  struct Pool {
    size_t bytes = 0;  // of its segments
    FreeBlocks small, large;
    std::vector<std::byte*> held;  // released by their users, but used by what was recorded
  };
  struct Segment {
    size_t bytes = 0;
    bool small = false;
    Pool* pool = nullptr;
  };
  enum class State { free, used, held };
  struct Block {
    size_t bytes = 0;
    Segment* segment = nullptr;
    State state = State::free;
    MemoryUse use = MemoryUse::other;
  };
  using Blocks = std::map<std::byte*, Block>;

  static FreeBlocks& free_blocks(const Segment& segment) {
    return segment.small ? segment.pool->small : segment.pool->large;
  }
  size_t growth(size_t block) const;
  void* take(size_t bytes, size_t segment_bytes);
  bool add_segment(size_t bytes, bool small);
  Blocks::iterator cut(Blocks::iterator block, size_t bytes);
  void make_free(Blocks::iterator block);
  void join_next(Blocks::iterator block);
  bool pool_is_open() const;
  void trim_locked() noexcept;
  MemoryReport report(size_t asked) const;

  std::unique_ptr<SegmentSource> source_;
  ArenaOptions options_;
  mutable std::mutex mutex_;
  std::map<std::byte*, Segment> segments_;
  Blocks blocks_;  // all segments, without gaps
  Pool common_;
  std::map<int64_t, Pool> pools_;
  Pool* open_ = &common_;  // where blocks come from
  int64_t next_pool_ = 1;
  MemoryUse use_ = MemoryUse::other;
  BytesByUse in_use_by_{};
  size_t in_use_ = 0, peak_ = 0, reserved_ = 0, most_ = 0;
};

}  // namespace plsc
