// What the stand-in's own tests share.
#pragma once
#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <vector>

#include "base/error.h"
#include "standin.h"
#include "support/catch.h"

namespace plsc::standin {

/// The machine for one test: misuse throws, nothing runs by itself. Put back as it was at the end.
class TestMachine {
 public:
  explicit TestMachine(uint64_t seed = 1) : before_(options()) {
    Options mine;
    mine.seed = seed;
    mine.idle_ms = -1;
    set_options(mine);
  }
  ~TestMachine() { set_options(before_); }

  void change(const std::function<void(Options&)>& edit) {
    Options mine = options();
    edit(mine);
    set_options(mine);
  }

 private:
  Options before_;
  ThrowMisuse throw_;
};

class Stream {
 public:
  explicit Stream(unsigned flags = cudaStreamNonBlocking) {
    REQUIRE(cudaStreamCreateWithFlags(&handle_, flags) == cudaSuccess);
  }
  ~Stream() {
    cudaStreamSynchronize(handle_);
    cudaStreamDestroy(handle_);
  }
  operator cudaStream_t() const { return handle_; }
  void wait() const { REQUIRE(cudaStreamSynchronize(handle_) == cudaSuccess); }

 private:
  cudaStream_t handle_ = nullptr;
};

class Event {
 public:
  explicit Event(unsigned flags = cudaEventDisableTiming) {
    REQUIRE(cudaEventCreateWithFlags(&handle_, flags) == cudaSuccess);
  }
  ~Event() { cudaEventDestroy(handle_); }
  operator cudaEvent_t() const { return handle_; }

 private:
  cudaEvent_t handle_ = nullptr;
};

/// Keeps a stream from going on as long as this lives, or until it is let go.
class HeldUp {
 public:
  explicit HeldUp(cudaStream_t stream) {
    enqueue_polled(stream, "held up", [go = go_] { return *go; });
  }
  ~HeldUp() { let_go(); }
  HeldUp(const HeldUp&) = delete;
  HeldUp& operator=(const HeldUp&) = delete;

  void let_go() { *go_ = true; }

 private:
  std::shared_ptr<bool> go_ = std::make_shared<bool>(false);
};

/// Work that the device comes back to `turns` times before it is done, so that the host and other streams get ahead.
inline void slow_down(cudaStream_t stream, int turns) {
  enqueue_polled(stream, "slow", [turns]() mutable { return turns-- == 0; });
}

/// How often the host asks in the tests of what must not take it long.
constexpr int kPolls = 3000;

/// For Device::set_host_wait: a wait that comes to nothing ends with an Error.
inline void wait_a_while(const std::function<bool()>& done) {
  for (int polls = 0; polls < kPolls; ++polls) {
    if (done()) return;
  }
  fail("the device does not get there");
}

/// Since `before` no memory was taken, and no call made the host wait.
inline void check_steady_since(const Counters& before) {
  const Counters after = counters();
  CHECK(after.synchronisations == before.synchronisations);
  CHECK(after.device_allocations == before.device_allocations);
  CHECK(after.pinned_allocations == before.pinned_allocations);
}

/// n elements of device memory.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t n) : n_(n) {
    void* p = nullptr;
    REQUIRE(cudaMalloc(&p, n * sizeof(T)) == cudaSuccess);
    data_ = static_cast<T*>(p);
  }
  ~DeviceArray() { cudaFree(data_); }
  T* get() const { return data_; }
  size_t bytes() const { return n_ * sizeof(T); }
  std::vector<T> read() const {
    std::vector<T> host(n_);
    REQUIRE(cudaMemcpy(host.data(), data_, bytes(), cudaMemcpyDeviceToHost) == cudaSuccess);
    return host;
  }
  void write(const std::vector<T>& host) const {
    REQUIRE(cudaMemcpy(data_, host.data(), bytes(), cudaMemcpyHostToDevice) == cudaSuccess);
  }

 private:
  size_t n_;
  T* data_ = nullptr;
};

/// n elements of pinned memory.
template <class T>
class PinnedArray {
 public:
  explicit PinnedArray(size_t n) {
    void* p = nullptr;
    REQUIRE(cudaMallocHost(&p, n * sizeof(T)) == cudaSuccess);
    data_ = static_cast<T*>(p);
  }
  ~PinnedArray() { cudaFreeHost(data_); }
  T* get() const { return data_; }

 private:
  T* data_ = nullptr;
};

}  // namespace plsc::standin
