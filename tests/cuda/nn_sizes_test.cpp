// More elements than one turn of the largest grid takes, so many rows that each thread sums dozens of them, and none.
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

TEST_CASE("cuda: addition of more elements than a grid has threads", "[large]") {
  NnBackend test;
  Device& device = *test.backend.device;
  const std::vector<float> a = repeating(1009), b = repeating(17);
  Tensor sum = on_device(device, b);
  test.backend.nn->add(on_device(device, a), sum);
  std::vector<float> expected = a;
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += b[i];
  CHECK(on_host(device, sum) == expected);
}

TEST_CASE("cuda: dropout keeps the elements that the CPU's keeps, of more than a grid has threads", "[large]") {
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

TEST_CASE("cuda: batch norm sums what dozens of rows a thread add up to as if all of it were in double", "[large]") {
  // One channel: no grid has more than 512 blocks of 256 threads for it, so a thread has 48 rows.
  constexpr int64_t kRows = int64_t{512} * 256 * 48 + 5;
  // Sums of eight such values, of their squares and of their products with 2 are fp32 numbers. Beyond 16 the last digit
  // is no more a digit of the sum, and beyond 32 it adds nothing: a sum in fp32 alone is wrong by 2e-7.
  constexpr float kValue = 1 + 1.0F / (1 << 20);
  NnBackend test;
  Device& device = *test.backend.device;
  const auto column = [&](float first) {
    std::vector<float> values(static_cast<size_t>(kRows), kValue);
    values[0] = first;
    return on_device(device, values).reshape({kRows, 1});
  };
  const auto n = static_cast<double>(kRows - 1);
  const double value{kValue}, square = 1 + 1.0 / (1 << 19);  // rounded to fp32, as the kernels do
  const auto sums_of = [&](const Tensor& sums) {
    Tensor host(host_allocator(), sums.shape(), Dtype::f64);
    device.copy(sums, host);
    return host.values<double>();
  };
  const auto constant = [&](std::vector<float> values, Shape shape) {
    return on_device(device, values).reshape(shape);
  };
  // What is added in double is rounded by 2^-53 each time.
  constexpr double kClose = 1e-12;

  // The first row is what others are measured from: with 0, as they are.
  const Tensor x = column(0);
  Tensor sums = device.tensor({2, 1}, Dtype::f64);
  test.backend.nn->batch_norm_stats(x, sums);
  CHECK(sums_of(sums)[0] == Approx(n * value).epsilon(kClose));
  CHECK(sums_of(sums)[1] == Approx(n * square).epsilon(kClose));

  BatchNormApply forward;
  forward.x = x;
  forward.mean_rstd = constant({0, 1}, {2, 1});
  forward.beta = constant({0}, {1});
  forward.y = device.tensor(x.shape());
  forward.sums = device.tensor({2, 1}, Dtype::f64);
  test.backend.nn->batch_norm_apply(forward);
  CHECK(sums_of(forward.sums)[0] == Approx(n * value).epsilon(kClose));
  CHECK(sums_of(forward.sums)[1] == Approx(n * square).epsilon(kClose));

  for (const bool prelu : {false, true}) {
    // x is -2 and z is x, so that a PReLU halves dy on its way to dz, and its slope's gradient is dy x.
    BatchNormBackward backward;
    backward.forward = forward;
    backward.forward.sums = {};
    backward.forward.x = constant(std::vector<float>(static_cast<size_t>(kRows), -2), {kRows, 1});
    backward.dy = column(0);
    backward.sums = device.tensor({2, 1}, Dtype::f64);
    if (prelu) {
      backward.forward.activation = Activation::prelu;
      backward.forward.slope = constant({0.5F}, {1});
      backward.dslope = device.tensor({1}, Dtype::f64);
    }
    test.backend.nn->batch_norm_backward_sums(backward);
    const double dz = n * (prelu ? value / 2 : value);
    CHECK(sums_of(backward.sums)[0] == Approx(dz).epsilon(kClose));
    CHECK(sums_of(backward.sums)[1] == Approx(-2 * dz).epsilon(kClose));
    if (prelu) CHECK(sums_of(backward.dslope)[0] == Approx(-2 * n * value).epsilon(kClose));
  }
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
