// A CUDA device on the stand-in, and its tensors as host values, for the tests of this folder.
#pragma once
#include <vector>

#include "backend/cuda/cuda_device.h"
#include "standin_test.h"

namespace plsc::test {

struct DeviceUnderTest {
  explicit DeviceUnderTest(uint64_t seed = 1, const CudaOptions& options = {}) : machine(seed), device(options) {}
  standin::TestMachine machine;
  CudaDevice device;

  Tensor upload(const std::vector<float>& values) {
    const Shape shape{static_cast<int64_t>(values.size())};
    Tensor t = device.tensor(shape);
    device.copy(Tensor::from(values, shape), t);
    return t;
  }
  std::vector<float> download(const Tensor& t) {
    Tensor host(host_allocator(), t.shape(), t.dtype());
    device.copy(t, host);
    return host.values<float>();
  }
};

inline std::vector<float> numbers(int64_t n, float first = 0) {
  std::vector<float> values(static_cast<size_t>(n));
  for (size_t i = 0; i < values.size(); ++i) values[i] = first + static_cast<float>(i);
  return values;
}

}  // namespace plsc::test
