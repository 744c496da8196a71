// A device that has no memory and hands it out all the same: addresses that nobody may look at, and exact accounts of
// how much there would be in use. Copies and fills do nothing.
#pragma once
#include <array>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "backend/device.h"

namespace plsc {

inline constexpr size_t kDryUses = 7;
using DryBytes = std::array<size_t, kDryUses>;  // by static_cast<size_t>(MemoryUse)

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
  /// Accounts as the CPU's memory does (blocks of size classes, kept by class), or as a GPU's arena.
  DryDevice(DeviceKind kind, int threads);

  void* allocate(size_t bytes) override;
  void release(void* data, size_t bytes) noexcept override;
  /// As the device that is played: the layers above do other things for host memory.
  bool is_host() const override { return kind_ == DeviceKind::cpu; }

  DeviceKind kind() const override { return kind_; }
  std::string description() const override { return "dry run"; }
  std::string library_versions() const override { return ""; }
  int threads() const override { return threads_; }
  bool supports(Dtype dtype) const override { return kind_ == DeviceKind::cuda || dtype != Dtype::f16; }
  void trim() override;
  /// As the device that is played would count.
  DeviceMemory memory() const override { return {in_use_, peak_, reserved_, most_}; }
  /// Of the most that was reserved, the bytes that somebody would have written to: a CPU's blocks are larger than what
  /// was asked for, and the system gives pages to those that are touched alone.
  size_t resident() const { return most_resident_; }
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

  /// What was asked for at the peak, by its use.
  const DryBytes& peak_by_use() const { return at_peak_; }

 private:
  struct Block {
    MemoryUse use = MemoryUse::other;
    size_t asked = 0;
    size_t touched = 0;  // of all that it has been handed out for so far
  };
  size_t block_size(size_t bytes) const;
  size_t touched(size_t bytes, size_t block) const;

  DeviceKind kind_;
  int threads_;
  MemoryUse use_ = MemoryUse::other;
  mutable std::mutex mutex_;  // threads of an op take memory of their own
  DryTables tables_;
  uintptr_t next_;
  std::map<void*, Block> blocks_;
  std::map<size_t, std::vector<size_t>> free_;  // what is touched of the free blocks of a size, on a CPU
  DryBytes in_use_by_{}, at_peak_{};
  size_t in_use_ = 0, peak_ = 0, reserved_ = 0, most_ = 0, resident_ = 0, most_resident_ = 0;
};

}  // namespace plsc
