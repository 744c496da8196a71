// More elements than one turn of the largest grid takes, and none.
#include "nn_backend.h"
#include "support/catch.h"

namespace plsc::test {
namespace {

/// Over 8192 blocks of 256 threads with four elements each, which is what kernels over flat ranges take in one turn.
constexpr int64_t kMany = int64_t{8192} * 256 * 4 + 5;

std::vector<float> repeating(int64_t period) {
  std::vector<float> values(kMany);
  for (int64_t i = 0; i < kMany; ++i) values[static_cast<size_t>(i)] = static_cast<float>(i % period);
  return values;
}

Tensor on_device(Device& device, const std::vector<float>& values) {
  Tensor t = device.tensor({static_cast<int64_t>(values.size())});
  device.copy(Tensor::from(values, t.shape()), t);
  return t;
}

std::vector<float> on_host(Device& device, const Tensor& t) {
  Tensor host(host_allocator(), t.shape(), t.dtype());
  device.copy(t, host);
  return host.values<float>();
}

}  // namespace

TEST_CASE("cuda: addition of more elements than a grid has threads") {
  NnBackend test;
  Device& device = *test.backend.device;
  const std::vector<float> a = repeating(1009), b = repeating(17);
  Tensor sum = on_device(device, b);
  test.backend.nn->add(on_device(device, a), sum);
  std::vector<float> expected = a;
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += b[i];
  CHECK(on_host(device, sum) == expected);
}

TEST_CASE("cuda: dropout keeps the elements that the CPU's keeps, of more than a grid has threads") {
  const std::vector<float> x = repeating(1009);
  const math::StepInputs inputs{.step = 3, .first_sample = 5};  // sample 5 begins inside of four that share their bits
  const auto drop = [&](Backend& backend) {
    NnOps::Dropout args;
    args.x = on_device(*backend.device, x).reshape({1, kMany});
    args.y = backend.device->tensor({1, kMany});
    args.p = 0.3f;
    args.seed = 11;
    begin_step(backend, inputs);
    backend.nn->dropout(args);
    return on_host(*backend.device, args.y);
  };
  NnBackend test;
  Backend cpu = make_cpu_backend(2);
  CHECK(drop(test.backend) == drop(cpu));
}

TEST_CASE("cuda: nothing to convert, to add or to drop") {
  NnBackend test;
  Device& device = *test.backend.device;
  const Tensor none = device.tensor({0, 3});
  Tensor other = device.tensor({0, 3}), narrow = device.tensor({0, 3}, Dtype::f16);
  test.backend.nn->add(none, other);
  test.backend.nn->cast(none, narrow);
  test.backend.nn->dropout({.x = none, .y = other, .p = 0.5f, .seed = 1});
  CHECK_NOTHROW(device.synchronize());  // CUDA refuses a grid of no block
}

}  // namespace plsc::test
