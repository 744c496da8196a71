// A device that has no memory and hands it out all the same: addresses that nobody may look at, and the accounts that
// the device which is played would keep (dry_memory.h). Copies and fills do nothing.
#pragma once
#include <map>
#include <mutex>
#include <utility>

#include "backend/arena_pool.h"
#include "backend/capability.h"
#include "backend/device.h"
#include "backend/dry/dry_memory.h"
#include "backend/dry/gpu_traits.h"
#include "backend/dry/tally.h"

namespace plsc {

/// Addresses of host memory for tables.
class DryTables final : public Allocator {
 public:
  void* allocate(size_t bytes) override;
  void release(void*, size_t) noexcept override {}
  bool is_host() const override { return true; }
  bool has(const void* data) const;

 private:
  uintptr_t taken_ = 0;  // bytes
};

class DryDevice final : public Device {
 public:
  /// `threads`: of a CPU. `tally` is told of work that is played back; it outlives the device and its recordings.
  DryDevice(DeviceKind kind, int threads, const GpuTraits& gpu = {}, DryTally* tally = nullptr);

  void* allocate(size_t bytes) override;
  void release(void* data, size_t bytes) noexcept override;
  /// As the device that is played: the layers above do other things for host memory.
  bool is_host() const override { return kind_ == DeviceKind::cpu; }

  DeviceKind kind() const override { return kind_; }
  std::string description() const override { return "dry run"; }
  std::string library_versions() const override { return ""; }
  int threads() const override { return threads_; }
  bool supports(Dtype dtype) const override {
    if (kind_ == DeviceKind::cpu) return dtype == Dtype::bf16 ? cpu_has_bf16() : dtype != Dtype::f16;
    return dtype != Dtype::bf16 || gpu_.bf16;
  }
  void trim() override;
  /// As the device that is played would count.
  DeviceMemory memory() const override;
  size_t resident() const;  // DryMemory::resident
  MemoryUse exchange_use(MemoryUse use) override { return std::exchange(use_, use); }

  void copy(const Tensor&, Tensor&) override {}
  void fill_zero(Tensor&) override {}
  /// Zeros.
  std::unique_ptr<HostRead> start_read(const Tensor& from) override;
  void synchronize() override {}
  /// As unreal as its own, and in no account: who asks knows the sizes.
  Allocator& table_memory() override { return tables_; }
  /// Whether memory is of there.
  bool is_table(const void* data) const { return tables_.has(data); }

  /// A GPU records, for the memory that it takes: ops between begin and end count when they are played back, so that
  /// they stand where they do among collectives.
  bool can_record() const override { return memory_->arena() != nullptr; }
  std::shared_ptr<RecordingMemory> make_recording_memory() override;
  void begin_recording(const std::shared_ptr<RecordingMemory>& memory) override;
  std::unique_ptr<Recording> end_recording() override;

  /// What was asked for at the peak, by its use.
  const BytesByUse& peak_by_use() const { return at_peak_; }

 private:
  struct Block {
    MemoryUse use = MemoryUse::other;
    size_t asked = 0;
  };

  DeviceKind kind_;
  int threads_;
  GpuTraits gpu_;
  DryTally* tally_;
  MemoryUse use_ = MemoryUse::other;
  mutable std::mutex mutex_;  // threads of an op take memory of their own
  DryTables tables_;
  std::unique_ptr<DryMemory> memory_;
  std::shared_ptr<ArenaPool> recording_;  // while work is recorded
  std::map<void*, Block> blocks_;
  BytesByUse in_use_by_{}, at_peak_{};
  size_t peak_ = 0;
};

}  // namespace plsc
