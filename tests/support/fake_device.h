// A device without arithmetic, for tests of code that only moves memory: its memory is the host's, but it may claim to
// be far. Then every access must go through `copy`, whose largest transfer it remembers, and what does not touch the
// host's memory is put off for as long as backend/device.h allows.
#pragma once
#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/context.h"
#include "support/thread_world.h"

namespace plsc::test {

class FakeDevice final : public Device {
 public:
  explicit FakeDevice(bool far) : far_(far) {}
  void* allocate(size_t bytes) override { return host_allocator().allocate(bytes); }
  void release(void* data, size_t bytes) noexcept override { host_allocator().release(data, bytes); }
  bool is_host() const override { return !far_; }

  DeviceKind kind() const override { return far_ ? DeviceKind::cuda : DeviceKind::cpu; }
  std::string description() const override { return "fake"; }
  std::string library_versions() const override { return "none"; }
  int threads() const override { return 1; }
  bool supports(Dtype) const override { return true; }
  void copy(const Tensor& from, Tensor& to) override {
    PLSC_CHECK(from.elements() == to.elements() && from.dtype() == to.dtype());
    give([from, to] {
      if (from.bytes() > 0) std::memcpy(to.raw(), from.raw(), from.bytes());
    });
    if (from.on_host() || to.on_host()) synchronize();
    largest_copy = std::max(largest_copy, static_cast<int64_t>(from.bytes()));
  }
  void fill_zero(Tensor& t) override {
    give([t] { std::memset(t.raw(), 0, t.bytes()); });
  }
  void synchronize() override {
    for (const auto& work : put_off_) work();
    put_off_.clear();
  }

  int64_t largest_copy = 0;  // bytes

 private:
  /// Tensors in `work` keep their memory, as a device's order does.
  void give(std::function<void()> work) {
    put_off_.push_back(std::move(work));
    if (!far_) synchronize();
  }

  bool far_;
  std::vector<std::function<void()>> put_off_;
};

/// A context of one rank over a FakeDevice.
struct FakeContext {
  explicit FakeContext(ThreadRank& self, bool far = false)
      : device(new FakeDevice(far)), context{backend, self.comm, self.host, log} {
    backend.device.reset(device);
  }
  FakeDevice* device;  // owned by backend
  Backend backend;
  Log log{1, LogLevel::error};  // a rank that prints nothing
  Context context;
};

}  // namespace plsc::test
