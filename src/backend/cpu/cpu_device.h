// The CPU as a device: cached host memory, and copies on all of its threads.
#pragma once
#include <atomic>

#include "backend/cpu/block_cache.h"
#include "backend/device.h"

namespace plsc {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(int threads);

  void* allocate(size_t bytes) override { return blocks_.allocate(bytes, use_); }
  void release(void* data, size_t bytes) noexcept override { blocks_.release(data, bytes); }
  bool is_host() const override { return true; }

  MemoryUse exchange_use(MemoryUse use) override { return use_.exchange(use); }

  DeviceKind kind() const override { return DeviceKind::cpu; }
  std::string description() const override;
  std::string library_versions() const override;
  int threads() const override { return threads_; }
  bool supports(Dtype dtype) const override;
  DeviceMemory memory() const override {
    return {blocks_.in_use(), blocks_.peak(), blocks_.reserved(), blocks_.most()};
  }
  void trim() override { blocks_.trim(); }

  void copy(const Tensor& from, Tensor& to) override;
  void fill_zero(Tensor& t) override;
  void synchronize() override {}

 private:
  int threads_;
  std::atomic<MemoryUse> use_{MemoryUse::other};  // threads that load images allocate, too
  BlockCache blocks_;
};

}  // namespace plsc
