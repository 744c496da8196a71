#include "backend/arena.h"

#include <algorithm>
#include <iterator>

namespace plsc {
namespace {

size_t rounded(size_t bytes, size_t grain) { return (bytes + grain - 1) / grain * grain; }

/// Large requests round up a little more, so that sizes that are nearly alike share blocks.
size_t block_size(size_t bytes) {
  constexpr size_t kLargeGrain = size_t{64} << 10;
  return rounded(std::max<size_t>(bytes, 1), bytes <= Arena::kSmall ? Arena::kAlignment : kLargeGrain);
}

size_t segment_size(size_t block) {
  if (block <= Arena::kSmall) return Arena::kSmallSegment;
  // Half of a segment at most for one block: more would leave remainders that fit nothing.
  return block <= Arena::kLargeSegment / 2 ? Arena::kLargeSegment : rounded(block, Arena::kSmallSegment);
}

}  // namespace

Arena::Arena(std::unique_ptr<SegmentSource> source, ArenaOptions options)
    : source_(std::move(source)), options_(std::move(options)) {}

Arena::~Arena() {
  for (const auto& [data, segment] : segments_) source_->give_back(data);
}

void* Arena::allocate(size_t bytes) {
  const size_t size = block_size(bytes), usual = segment_size(size);
  const auto attempt = [&](size_t segment) {
    const std::lock_guard lock(mutex_);
    return take(size, segment);
  };
  for (const size_t segment : {std::max(usual, growth(size)), usual}) {
    if (void* data = attempt(segment)) return data;
  }
  if (!pool_is_open()) trim();
  // At the end of the memory a segment may be as small as its block.
  for (const size_t segment : {usual, size}) {
    if (void* data = attempt(segment)) return data;
  }
  const std::lock_guard lock(mutex_);
  fail_out_of_memory(report(bytes));
}

/// Of a new segment for large blocks: an eighth of what its pool has. The same work cuts the segments in another way
/// when it comes again; with some room to spare it still fits. Of 200 random workloads all fitted from the third time
/// on, and without this one in twenty did not.
size_t Arena::growth(size_t block) const {
  const std::lock_guard lock(mutex_);
  return block <= kSmall ? 0 : rounded(open_->bytes / 8, kSmallSegment);
}

/// A block of `bytes` from the open pool, which a segment is added to where it has none; null where none can be had.
void* Arena::take(size_t bytes, size_t segment_bytes) {
  const bool small = bytes <= kSmall;
  FreeBlocks& free = small ? open_->small : open_->large;
  auto found = free.lower_bound({bytes, nullptr});
  if (found == free.end()) {
    if (!add_segment(segment_bytes, small)) return nullptr;
    found = free.lower_bound({bytes, nullptr});
  }
  const auto block = cut(blocks_.find(found->second), bytes);
  block->second.state = State::used;
  block->second.use = use_;
  in_use_ += block->second.bytes;
  in_use_by_[static_cast<size_t>(use_)] += block->second.bytes;
  peak_ = std::max(peak_, in_use_);
  return block->first;
}

bool Arena::add_segment(size_t bytes, bool small) {
  if (options_.limit > 0 && reserved_ + bytes > options_.limit) return false;
  auto* begin = static_cast<std::byte*>(source_->take(bytes));
  if (begin == nullptr) return false;
  Segment& segment = segments_[begin];
  segment = {bytes, small, open_};
  blocks_[begin] = {bytes, &segment, State::free, MemoryUse::other};
  free_blocks(segment).insert({bytes, begin});
  open_->bytes += bytes;
  reserved_ += bytes;
  most_ = std::max(most_, reserved_);
  return true;
}

/// Takes a free block off its list and gives what it has beyond `bytes` back to it.
Arena::Blocks::iterator Arena::cut(Blocks::iterator block, size_t bytes) {
  auto& [data, b] = *block;
  FreeBlocks& free = free_blocks(*b.segment);
  free.erase({b.bytes, data});
  const size_t grain = b.segment->small ? kAlignment : kSmall;
  if (b.bytes - bytes >= grain) {
    std::byte* rest = data + bytes;
    blocks_.emplace_hint(std::next(block), rest, Block{b.bytes - bytes, b.segment, State::free, MemoryUse::other});
    free.insert({b.bytes - bytes, rest});
    b.bytes = bytes;
  }
  return block;
}

void Arena::release(void* data) noexcept {
  if (data == nullptr) return;
  const std::lock_guard lock(mutex_);
  const auto block = blocks_.find(static_cast<std::byte*>(data));
  Block& b = block->second;
  in_use_ -= b.bytes;
  in_use_by_[static_cast<size_t>(b.use)] -= b.bytes;
  // What is being recorded may have read a block that others were handed before it began.
  if (open_ != &common_ && b.segment->pool == &common_) {
    b.state = State::held;
    open_->held.push_back(block->first);
  } else {
    make_free(block);
  }
}

/// Joins the block with its free neighbours and puts it on its pool's list.
void Arena::make_free(Blocks::iterator block) {
  block->second.state = State::free;
  if (block != blocks_.begin()) {
    const auto before = std::prev(block);
    if (before->second.state == State::free && before->second.segment == block->second.segment) {
      free_blocks(*before->second.segment).erase({before->second.bytes, before->first});
      join_next(before);
      block = before;
    }
  }
  const auto next = std::next(block);
  if (next != blocks_.end() && next->second.state == State::free && next->second.segment == block->second.segment) {
    free_blocks(*next->second.segment).erase({next->second.bytes, next->first});
    join_next(block);
  }
  free_blocks(*block->second.segment).insert({block->second.bytes, block->first});
}

/// Makes one of the block and the one behind it; neither is on a list.
void Arena::join_next(Blocks::iterator block) {
  const auto next = std::next(block);
  block->second.bytes += next->second.bytes;
  blocks_.erase(next);
}

bool Arena::pool_is_open() const {
  const std::lock_guard lock(mutex_);
  return open_ != &common_;
}

void Arena::trim() {
  PLSC_CHECK(!pool_is_open(), "memory cannot be given back while work is recorded");
  options_.wait_idle();
  const std::lock_guard lock(mutex_);
  trim_locked();
}

void Arena::trim_locked() noexcept {
  for (auto it = segments_.begin(); it != segments_.end();) {
    const auto& [data, segment] = *it;
    const auto block = blocks_.find(data);
    // Segments of a pool are used by every run of what was recorded.
    if (segment.pool != &common_ || block->second.state != State::free || block->second.bytes != segment.bytes) {
      ++it;
      continue;
    }
    free_blocks(segment).erase({segment.bytes, data});
    blocks_.erase(block);
    source_->give_back(data);
    common_.bytes -= segment.bytes;
    reserved_ -= segment.bytes;
    it = segments_.erase(it);
  }
}

MemoryUse Arena::exchange_use(MemoryUse use) {
  const std::lock_guard lock(mutex_);
  return std::exchange(use_, use);
}

DeviceMemory Arena::memory() const {
  const std::lock_guard lock(mutex_);
  return {in_use_, peak_, reserved_, most_};
}

int64_t Arena::make_pool() {
  const std::lock_guard lock(mutex_);
  const int64_t pool = next_pool_++;
  pools_[pool];
  return pool;
}

void Arena::open_pool(int64_t pool) {
  const std::lock_guard lock(mutex_);
  PLSC_CHECK(open_ == &common_, "a pool is open already");
  open_ = &pools_.at(pool);
}

void Arena::end_pool() {
  const std::lock_guard lock(mutex_);
  open_ = &common_;
}

void Arena::drop_pool(int64_t number) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = pools_.find(number);
  Pool& pool = found->second;
  if (open_ == &pool) open_ = &common_;
  for (auto& [data, segment] : segments_) {
    if (segment.pool == &pool) segment.pool = &common_;
  }
  common_.bytes += pool.bytes;
  common_.small.merge(pool.small);
  common_.large.merge(pool.large);
  for (std::byte* data : pool.held) make_free(blocks_.find(data));
  pools_.erase(found);
}

MemoryReport Arena::report(size_t asked) const {
  MemoryReport r;
  r.asked = asked;
  r.use = use_;
  r.in_use = in_use_by_;
  for (const auto& [data, block] : blocks_) {
    if (block.state == State::held || (block.state == State::free && block.segment->pool != &common_)) {
      r.recorded += block.bytes;
    }
  }
  r.kept = reserved_ - in_use_ - r.recorded;
  const SegmentSource::Room room = source_->room();
  r.free = room.free;
  r.total = room.total;
  r.limit = options_.limit;
  return r;
}

}  // namespace plsc
