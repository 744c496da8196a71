// What the stand-in's own tests share.
#pragma once
#include <cuda_runtime_api.h>

#include <vector>

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
