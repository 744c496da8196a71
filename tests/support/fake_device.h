// A device without arithmetic, for tests of code that only moves memory: its memory is the host's, but it may claim to
// be far. Then every access must go through `copy`, whose largest transfer it remembers, and what does not touch the
// host's memory is put off for as long as backend/device.h allows. It records, too.
#pragma once
#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
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
    const bool waits = far_ && (from.on_host() || to.on_host());
    PLSC_CHECK(!waits || !recorded_, "a copy of host memory while recording");
    give([from, to] {
      if (from.bytes() > 0) std::memcpy(to.raw(), from.raw(), from.bytes());
    });
    if (waits) synchronize();
    largest_copy = std::max(largest_copy, static_cast<int64_t>(from.bytes()));
  }
  void fill_zero(Tensor& t) override {
    give([t] { std::memset(t.raw(), 0, t.bytes()); });
  }
  void synchronize() override {
    PLSC_CHECK(!recorded_, "a wait while recording");
    for (const auto& work : put_off_) work();
    put_off_.clear();
  }

  bool can_record() const override { return true; }
  std::shared_ptr<RecordingMemory> make_recording_memory() override { return std::make_shared<RecordingMemory>(); }
  void begin_recording(const std::shared_ptr<RecordingMemory>& memory) override {
    PLSC_CHECK(memory != nullptr && !recorded_, "a recording inside a recording");
    recorded_.emplace();
  }
  std::unique_ptr<Recording> end_recording() override {
    PLSC_CHECK(recorded_, "nothing is being recorded");
    auto works = std::move(*recorded_);
    recorded_.reset();
    return works.empty() ? nullptr : std::make_unique<Works>(*this, std::move(works));
  }

  /// Work of any kind, in its place in the order. Tensors in `work` keep their memory, as a device's order does.
  void give(std::function<void()> work) {
    if (recorded_) return recorded_->push_back(std::move(work));
    put_off_.push_back(std::move(work));
    if (!far_) synchronize();
  }

  int64_t largest_copy = 0;  // bytes

 private:
  class Works final : public Recording {
   public:
    Works(FakeDevice& device, std::vector<std::function<void()>> works) : device_(device), works_(std::move(works)) {}
    void replay() override {
      for (const auto& work : works_) device_.give(work);
    }

   private:
    FakeDevice& device_;
    std::vector<std::function<void()>> works_;
  };

  bool far_;
  std::vector<std::function<void()>> put_off_;
  std::optional<std::vector<std::function<void()>>> recorded_;  // while it records
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
