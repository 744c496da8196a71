#include "backend/dry/dry_device.h"

#include <cstring>

#include "backend/cpu/block_cache.h"

namespace plsc {
namespace {

constexpr uintptr_t kFirstTable = uintptr_t{1} << 60;  // behind all of kFirstDryAddress

class Zeros final : public HostRead {
 public:
  explicit Zeros(const Tensor& like) : values_(host_allocator(), like.shape(), like.dtype()) {
    std::memset(values_.raw(), 0, values_.bytes());
  }
  const Tensor& get() override { return values_; }

 private:
  Tensor values_;
};

/// Keeps its memory, as whoever replays it would use it.
class DryRecording final : public Recording {
 public:
  DryRecording(std::shared_ptr<ArenaPool> memory, std::vector<DryWork> work, DryTally* tally)
      : memory_(std::move(memory)), work_(std::move(work)), tally_(tally) {}
  void replay() override {
    for (const DryWork& work : work_) tally_->add(work);
  }

 private:
  std::shared_ptr<ArenaPool> memory_;
  std::vector<DryWork> work_;
  DryTally* tally_;
};

size_t place(MemoryUse use) { return static_cast<size_t>(use); }

}  // namespace

void* DryTables::allocate(size_t bytes) {
  void* data = reinterpret_cast<void*>(kFirstTable + taken_);
  taken_ += (bytes / BlockCache::kHugePage + 1) * BlockCache::kHugePage;
  return data;
}
bool DryTables::has(const void* data) const { return reinterpret_cast<uintptr_t>(data) >= kFirstTable; }

DryDevice::DryDevice(DeviceKind kind, int threads, const GpuTraits& gpu, DryTally* tally)
    : kind_(kind), threads_(threads), gpu_(gpu), tally_(tally), memory_(make_dry_memory(kind)) {}

void* DryDevice::allocate(size_t bytes) {
  const std::lock_guard lock(mutex_);
  void* data = memory_->allocate(bytes);
  blocks_.emplace(data, Block{use_, bytes});
  in_use_by_[place(use_)] += bytes;
  if (const size_t now = memory_->counts().in_use; now > peak_) {
    peak_ = now;
    at_peak_ = in_use_by_;
  }
  return data;
}

void DryDevice::release(void* data, size_t bytes) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = blocks_.find(data);
  if (found == blocks_.end()) return;
  in_use_by_[place(found->second.use)] -= found->second.asked;
  memory_->release(data, bytes);
  blocks_.erase(found);
}

void DryDevice::trim() {
  const std::lock_guard lock(mutex_);
  memory_->trim();
}

DeviceMemory DryDevice::memory() const {
  const std::lock_guard lock(mutex_);
  return memory_->counts();
}

size_t DryDevice::resident() const {
  const std::lock_guard lock(mutex_);
  return memory_->resident();
}

std::unique_ptr<HostRead> DryDevice::start_read(const Tensor& from) { return std::make_unique<Zeros>(from); }

std::shared_ptr<RecordingMemory> DryDevice::make_recording_memory() {
  return std::make_shared<ArenaPool>(*memory_->arena());
}

void DryDevice::begin_recording(const std::shared_ptr<RecordingMemory>& memory) {
  PLSC_CHECK(!recording_, "work is being recorded already");
  recording_ = std::dynamic_pointer_cast<ArenaPool>(memory);
  PLSC_CHECK(recording_ != nullptr, "a recording without memory");
  recording_->open();
  if (tally_ != nullptr) tally_->begin_recording();
}

std::unique_ptr<Recording> DryDevice::end_recording() {
  PLSC_CHECK(recording_, "nothing is being recorded");
  recording_->close();
  std::vector<DryWork> work;
  if (tally_ != nullptr) work = tally_->end_recording();
  return std::make_unique<DryRecording>(std::exchange(recording_, nullptr), std::move(work), tally_);
}

}  // namespace plsc
