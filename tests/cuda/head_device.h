// Device memory for the tests of the head's kernels: made from values and read back into values, by the CUDA runtime
// alone, so that the same cases run on the stand-in and on a GPU.
#pragma once
#include <cuda_runtime_api.h>

#include <algorithm>
#include <vector>

#include "kernels/math/rng.h"
#include "support/catch.h"

namespace plsc::test {

/// n elements; what nobody wrote is NaN on the stand-in.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(int64_t n) : n_(static_cast<size_t>(n)) {
    void* p = nullptr;
    REQUIRE(cudaMalloc(&p, std::max<size_t>(n_, 1) * sizeof(T)) == cudaSuccess);
    data_ = static_cast<T*>(p);
  }
  OnDevice(const std::vector<T>& values) : OnDevice(static_cast<int64_t>(values.size())) {
    if (n_ > 0) REQUIRE(cudaMemcpy(data_, values.data(), n_ * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
  }
  ~OnDevice() { cudaFree(data_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  T* get() const { return data_; }
  /// Waits for the device.
  std::vector<T> read() const {
    std::vector<T> values(n_);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    if (n_ > 0) REQUIRE(cudaMemcpy(values.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
    return values;
  }

 private:
  size_t n_;
  T* data_ = nullptr;
};

/// The stream of these tests.
inline cudaStream_t stream() {
  static const cudaStream_t one = [] {
    cudaStream_t made = nullptr;
    REQUIRE(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking) == cudaSuccess);
    return made;
  }();
  return one;
}

/// Uniform in [-1, 1), a function of (draw, i).
inline std::vector<float> random_floats(int64_t count, uint64_t draw) {
  std::vector<float> out;
  for (int64_t i = 0; i < count; ++i) {
    const auto r = math::random4(21, math::Draw::synthetic, draw, static_cast<uint64_t>(i));
    out.push_back(2 * math::to_unit_float(r.x[0]) - 1);
  }
  return out;
}

/// The largest difference, in units of the largest expected value; infinite where sizes differ or a value is not
/// finite though it should be.
template <class T>
double largest_error(const std::vector<T>& got, const std::vector<T>& expected) {
  double difference = got.size() == expected.size() ? 0 : INFINITY, largest = 1e-30;
  for (size_t i = 0; i < std::min(got.size(), expected.size()); ++i) {
    if (got[i] == expected[i]) continue;
    const double off = std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i]));
    difference = std::isfinite(off) ? std::max(difference, off) : INFINITY;
  }
  for (const T& value : expected) {
    if (std::isfinite(value)) largest = std::max(largest, std::abs(static_cast<double>(value)));
  }
  return difference / largest;
}

}  // namespace plsc::test
