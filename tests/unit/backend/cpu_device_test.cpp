// The CPU device and the checks that its ops make of what callers pass.
#include "backend/cpu/cpu_device.h"

#include <numeric>

#include "backend/backend.h"
#include "support/catch.h"

namespace plsc {

TEST_CASE("the CPU device describes itself") {
  CpuDevice device(2);
  CHECK(device.kind() == DeviceKind::cpu);
  CHECK(device.threads() == 2);
  CHECK(device.is_host());
  CHECK(device.supports(Dtype::f32));
  CHECK_FALSE(device.supports(Dtype::f16));
  CHECK(device.description().rfind("cpu, 2 threads, ", 0) == 0);
  const bool has_instructions =
      device.description().find("bf16") != std::string::npos || device.description().find("amx") != std::string::npos;
  CHECK(device.supports(Dtype::bf16) == has_instructions);
  CHECK_THROWS_AS(CpuDevice(0), LogicError);
}

TEST_CASE("copies and zeros of any size") {
  CpuDevice device(3);
  for (int64_t n : {1, 7, 100000, 3000001}) {
    std::vector<int32_t> values(static_cast<size_t>(n));
    std::iota(values.begin(), values.end(), 5);
    const Tensor host = Tensor::from(values, {n});
    Tensor t = device.tensor({n}, Dtype::i32);
    device.copy(host, t);
    CHECK(t.values<int32_t>() == values);
    device.fill_zero(t);
    CHECK(t.values<int32_t>() == std::vector<int32_t>(values.size()));
  }
  Tensor short_one = device.tensor({3}), other_type = device.tensor({4}, Dtype::i32);
  CHECK_THROWS_AS(device.copy(device.tensor({4}), short_one), LogicError);
  CHECK_THROWS_AS(device.copy(device.tensor({4}), other_type), LogicError);
}

TEST_CASE("a tensor's memory goes back to the device") {
  CpuDevice device(1);
  {
    const Tensor a = device.tensor({1000}), shared = a;
    CHECK(device.memory().in_use >= 4000);
  }
  CHECK(device.memory().in_use == 0);
  CHECK(device.memory().peak >= 4000);
  CHECK(device.memory().reserved >= 4000);
  device.trim();
  CHECK(device.memory().reserved == 0);
  CHECK(device.memory().most >= 4000);
}

TEST_CASE("ops refuse tensors that do not fit their spec") {
  Backend backend = make_cpu_backend(1);
  Device& device = *backend.device;
  ConvSpec spec;
  spec.batch = 2;
  spec.height = spec.width = 4;
  spec.in_channels = spec.out_channels = 8;
  const auto conv = backend.nn->make_conv(spec);
  Tensor x = device.zeros({2, 4, 4, 8}), w = device.zeros({8, 8, 3, 3}), y = device.zeros({2, 4, 4, 8});
  CHECK_NOTHROW(conv->forward(x, w, y));
  CHECK_THROWS_AS(conv->forward(device.zeros({1, 4, 4, 8}), w, y), LogicError);
  CHECK_THROWS_AS(conv->forward(x, device.zeros({8, 8, 1, 1}), y), LogicError);
  Tensor narrow = device.zeros({2, 4, 4, 8}, Dtype::bf16);
  CHECK_THROWS_AS(conv->forward(x, w, narrow), LogicError);
  CHECK_THROWS_AS(conv->forward(x, w, *std::make_unique<Tensor>()), LogicError);
  spec.kernel = 9;
  CHECK_THROWS_AS(backend.nn->make_conv(spec), LogicError);

  Tensor stats = device.zeros({2, 7}, Dtype::f64);
  CHECK_THROWS_AS(backend.nn->batch_norm_stats(x, stats), LogicError);
  PoolSpec pool;
  pool.batch = 1;
  pool.height = pool.width = 4;
  pool.channels = 3;
  Tensor dy = device.zeros({1, 2, 2, 3}), dx = device.zeros({1, 4, 4, 3});
  CHECK_THROWS_AS(backend.nn->make_pool(pool)->backward(dy, dx), LogicError);
}

}  // namespace plsc
