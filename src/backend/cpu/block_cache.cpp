#include "backend/cpu/block_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "base/clock.h"
#include "base/error.h"

namespace plsc {
namespace {

void* system_allocate(size_t bytes) {
  const size_t alignment = bytes >= BlockCache::kLargeBlock ? BlockCache::kHugePage : 64;
  void* data = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  // Advice only: activations of a hundred megabytes cost far fewer page-table walks on huge pages.
  if (data != nullptr && bytes >= BlockCache::kLargeBlock) ::madvise(data, bytes, MADV_HUGEPAGE);
  return data;
}

[[noreturn]] void fail_out_of_memory(size_t bytes, size_t in_use, MemoryUse use) {
  const std::string asked = human_bytes(static_cast<double>(bytes)), used = human_bytes(static_cast<double>(in_use));
  if (use == MemoryUse::centers) {
    fail_hint(
        "use more ranks: each holds its share of the classes. Or head.store: {dtype: bf16}, or a lower "
        "model.embedding_size",
        "out of host memory: asked for {} for class centres with {} in use", asked, used);
  }
  fail_hint("lower train.batch_size, or use more ranks", "out of host memory: asked for {} with {} in use", asked,
            used);
}

}  // namespace

size_t BlockCache::size_class(size_t bytes) {
  const size_t rounded = std::max<size_t>((bytes + 63) / 64 * 64, 64);
  if (rounded <= 512) return rounded;
  const size_t step = std::bit_floor(rounded) / 8;
  return (rounded + step - 1) / step * step;
}

BlockCache::~BlockCache() { trim(); }

void* BlockCache::allocate(size_t bytes, MemoryUse use) {
  const size_t size = size_class(bytes);
  const std::lock_guard lock(mutex_);
  void* data = nullptr;
  if (auto found = free_.find(size); found != free_.end() && !found->second.empty()) {
    data = found->second.back();
    found->second.pop_back();
  } else {
    data = system_allocate(size);
    if (data == nullptr) {
      trim_locked();
      data = system_allocate(size);
    }
    if (data == nullptr) fail_out_of_memory(bytes, in_use_, use);
    reserved_ += size;
    most_ = std::max(most_, reserved_);
  }
  in_use_ += size;
  peak_ = std::max(peak_, in_use_);
  return data;
}

void BlockCache::release(void* data, size_t bytes) noexcept {
  if (data == nullptr) return;
  const size_t size = size_class(bytes);
  const std::lock_guard lock(mutex_);
  in_use_ -= size;
  try {
    free_[size].push_back(data);
  } catch (...) {  // no memory for the list itself
    std::free(data);
    reserved_ -= size;
  }
}

void BlockCache::trim_locked() noexcept {
  for (auto& [size, blocks] : free_) {
    reserved_ -= size * blocks.size();
    for (void* block : blocks) std::free(block);
    blocks.clear();
  }
}

void BlockCache::trim() noexcept {
  const std::lock_guard lock(mutex_);
  trim_locked();
}

size_t BlockCache::in_use() const {
  const std::lock_guard lock(mutex_);
  return in_use_;
}
size_t BlockCache::peak() const {
  const std::lock_guard lock(mutex_);
  return peak_;
}
size_t BlockCache::reserved() const {
  const std::lock_guard lock(mutex_);
  return reserved_;
}
size_t BlockCache::most() const {
  const std::lock_guard lock(mutex_);
  return most_;
}

}  // namespace plsc
