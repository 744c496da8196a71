#include "backend/dry/dry_device.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "backend/cpu/block_cache.h"

namespace plsc {
namespace {

constexpr size_t kArenaAlignment = 256;                                       // of a GPU's arena
constexpr size_t kLargeBlock = size_t{4} << 20, kHugePage = size_t{2} << 20;  // of a CPU's blocks
// Where addresses begin: in no program's memory, so that whoever looks at one is stopped.
constexpr uintptr_t kFirstAddress = uintptr_t{1} << 52, kFirstTable = uintptr_t{1} << 60;

class Zeros final : public HostRead {
 public:
  explicit Zeros(const Tensor& like) : values_(host_allocator(), like.shape(), like.dtype()) {
    std::memset(values_.raw(), 0, values_.bytes());
  }
  const Tensor& get() override { return values_; }

 private:
  Tensor values_;
};

size_t place(MemoryUse use) { return static_cast<size_t>(use); }

}  // namespace

void* DryTables::allocate(size_t bytes) {
  void* data = reinterpret_cast<void*>(kFirstTable + taken_);
  taken_ += (bytes / kHugePage + 1) * kHugePage;
  return data;
}
bool DryTables::has(const void* data) const { return reinterpret_cast<uintptr_t>(data) >= kFirstTable; }

DryDevice::DryDevice(DeviceKind kind, int threads) : kind_(kind), threads_(threads), next_(kFirstAddress) {}

size_t DryDevice::block_size(size_t bytes) const {
  if (kind_ == DeviceKind::cpu) return BlockCache::size_class(bytes);
  return std::max<size_t>((bytes + kArenaAlignment - 1) / kArenaAlignment, 1) * kArenaAlignment;
}

size_t DryDevice::touched(size_t bytes, size_t block) const {
  // Large blocks lie on huge pages where the system has them.
  const size_t page = block >= kLargeBlock ? kHugePage : 1;
  return kind_ == DeviceKind::cpu ? std::min(block, (bytes + page - 1) / page * page) : block;
}

void* DryDevice::allocate(size_t bytes) {
  const size_t size = block_size(bytes);
  const std::lock_guard lock(mutex_);
  Block block{use_, bytes, 0};
  // On a CPU a block is used again for its own size class alone; a GPU's arena cuts and joins its blocks.
  if (std::vector<size_t>& free = free_[size]; !free.empty()) {
    block.touched = free.back();
    free.pop_back();
  } else if (kind_ == DeviceKind::cpu) {
    reserved_ += size;
  }
  if (const size_t now = touched(bytes, size); now > block.touched) {
    resident_ += now - block.touched;
    block.touched = now;
  }
  void* data = reinterpret_cast<void*>(next_);
  next_ += size;
  blocks_.emplace(data, block);
  in_use_ += size;
  in_use_by_[place(use_)] += bytes;
  if (in_use_ > peak_) {
    peak_ = in_use_;
    at_peak_ = in_use_by_;
  }
  if (kind_ == DeviceKind::cuda) reserved_ = resident_ = in_use_;
  most_ = std::max(most_, reserved_);
  most_resident_ = std::max(most_resident_, resident_);
  return data;
}

void DryDevice::trim() {
  const std::lock_guard lock(mutex_);
  for (const auto& [size, blocks] : free_) {
    reserved_ -= size * blocks.size();
    resident_ -= std::accumulate(blocks.begin(), blocks.end(), size_t{0});
  }
  free_.clear();
}

void DryDevice::release(void* data, size_t bytes) noexcept {
  const size_t size = block_size(bytes);
  const std::lock_guard lock(mutex_);
  const auto found = blocks_.find(data);
  if (found == blocks_.end()) return;
  in_use_by_[place(found->second.use)] -= found->second.asked;
  in_use_ -= size;
  if (kind_ == DeviceKind::cpu) free_[size].push_back(found->second.touched);
  blocks_.erase(found);
}

std::unique_ptr<HostRead> DryDevice::start_read(const Tensor& from) { return std::make_unique<Zeros>(from); }

}  // namespace plsc
