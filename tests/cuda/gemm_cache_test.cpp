// Plans are made once a shape, and only so many are kept.
#include "backend/cuda/gemm.h"
#include "device_test.h"
#include "parity/backend/values.h"

using namespace plsc;
using namespace plsc::test;

namespace {

struct Products {
  explicit Products(size_t capacity) : runtime(on.device, on.device.compute_stream(), {}), cache(runtime, capacity) {}
  /// c (m, 2) = 1s (m, 8) by 1s (8, 2), from `offset` elements into the first factor.
  void run(int64_t m, int64_t offset = 0) {
    cache.run({.m = m, .n = 2, .k = 8}, {ones.data<float>() + offset, ones.raw(), c.raw()});
  }
  DeviceUnderTest on;
  CudaRuntime runtime;
  GemmCache cache;
  Tensor ones = on.upload(std::vector<float>(256, 1.0f)), c = on.device.tensor({64});
};

}  // namespace

TEST_CASE("gemm cache: a shape is planned once") {
  Products p(4);
  for (int i = 0; i < 3; ++i) p.run(3);
  CHECK(p.cache.plans_made() == 1);
  p.run(4);
  CHECK(p.cache.plans_made() == 2);
  CHECK(p.on.download(p.c)[0] == 8.0f);
}

TEST_CASE("gemm cache: what was used last is kept") {
  Products p(2);
  p.run(1);
  p.run(2);
  p.run(1);
  p.run(3);  // 2 goes
  CHECK(p.cache.plans() == 2);
  CHECK(p.cache.plans_made() == 3);
  p.run(1);
  CHECK(p.cache.plans_made() == 3);
  p.run(2);
  CHECK(p.cache.plans_made() == 4);
}

TEST_CASE("gemm cache: a plan for aligned memory is not used for other memory") {
  Products p(4);
  p.run(4);
  p.run(4, 1);  // the stand-in ends a test that does so
  CHECK(p.cache.plans_made() == 2);
  CHECK(p.on.download(p.c)[7] == 8.0f);
}

TEST_CASE("gemm cache: products of one after another share one workspace") {
  Products p(4);
  const Values x = random_values({16, 256}, 1, Dtype::f32);
  const Tensor t = upload(p.on.device, x, {16, 256});
  const size_t before = p.on.device.memory().in_use;
  const auto gram = [&] { return p.on.device.tensor({16, 16}); };
  std::vector<Tensor> results{gram(), gram(), gram()};
  for (const Tensor& r : results) {
    p.cache.run({.m = 16, .n = 16, .k = 256, .transpose_b = true}, {t.raw(), t.raw(), r.raw()});
  }
  CHECK(p.on.device.memory().in_use == before + 3 * 16 * 16 * 4 + kProductWorkspace);
  for (const Tensor& r : results) {
    CHECK(download(p.on.device, r) == download(p.on.device, results[0]));
  }
}
