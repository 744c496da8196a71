// What every caller of a device relies on (backend/device.h), on a CUDA device that works late and in any order.
#include "device_test.h"

#include "support/error_text.h"

namespace plsc::test {

TEST_CASE("device: copies in every direction, of every size") {
  const auto n = GENERATE(int64_t{0}, int64_t{1}, int64_t{1000}, int64_t{5'000'001});  // the last in several pieces
  DeviceUnderTest test(GENERATE(1u, 2u));
  const std::vector<float> values = numbers(n, 3);
  const Tensor there = test.upload(values);
  Tensor beside = test.device.zeros({n});
  test.device.copy(there, beside);
  CHECK(test.download(beside) == values);
  CHECK(test.download(there) == values);
  Tensor host(host_allocator(), {n}, Dtype::f32);
  test.device.copy(Tensor::from(values, {n}), host);
  CHECK(host.values<float>() == values);
  test.device.fill_zero(host);
  test.device.fill_zero(beside);
  CHECK(host.values<float>() == std::vector<float>(static_cast<size_t>(n)));
  CHECK(test.download(beside) == host.values<float>());
}

TEST_CASE("device: a host source may be changed or freed at once") {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    DeviceUnderTest test(seed);
    std::vector<Tensor> there;
    Tensor host(host_allocator(), {3000}, Dtype::f32);
    for (int i = 0; i < 20; ++i) {
      const std::vector<float> values = numbers(3000, static_cast<float>(i));
      std::copy(values.begin(), values.end(), host.data<float>());
      there.push_back(test.device.tensor({3000}));
      test.device.copy(host, there.back());
    }
    host = {};
    for (size_t i = 0; i < there.size(); ++i) REQUIRE(test.download(there[i]) == numbers(3000, static_cast<float>(i)));
  }
}

TEST_CASE("device: memory may be released while the device works on it") {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    DeviceUnderTest test(seed);
    Tensor results = test.device.tensor({20, 500});
    const void* first = nullptr;
    for (int i = 0; i < 20; ++i) {
      const Tensor passing = test.upload(numbers(500, static_cast<float>(100 * i)));
      if (i == 0) first = passing.raw();
      CHECK(passing.raw() == first);  // handed on each time, while the copy below waits
      Tensor row = results.rows(i, 1);
      test.device.copy(passing, row);
    }
    for (int i = 0; i < 20; ++i)
      REQUIRE(test.download(results.rows(i, 1)) == numbers(500, static_cast<float>(100 * i)));
  }
}

TEST_CASE("device: a read has the values of its place in the order") {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    DeviceUnderTest test(seed);
    Tensor t = test.upload(numbers(100, 1));
    const auto early = test.device.start_read(t);
    test.device.fill_zero(t);
    const auto late = test.device.start_read(t);
    test.device.copy(Tensor::from(numbers(100, 7), {100}), t);
    CHECK(late->get().values<float>() == std::vector<float>(100));
    const Tensor kept = early->get();
    CHECK(early->get().values<float>() == numbers(100, 1));
    // Reads that are given up before they are there disturb none that come after.
    for (int i = 0; i < 5; ++i) test.device.start_read(t);
    CHECK(test.device.start_read(t)->get().values<float>() == numbers(100, 7));
    CHECK(kept.values<float>() == numbers(100, 1));
  }
}

TEST_CASE("device: uploads and reads do not make the host wait") {
  DeviceUnderTest test;
  Tensor t = test.upload(numbers(1000));
  test.device.start_read(t)->get();
  bool go = false;
  standin::enqueue_polled(test.device.compute_stream(), "held up", [&go] { return go; });
  const int64_t waits = standin::counters().synchronisations;
  for (int i = 0; i < 50; ++i) test.device.copy(Tensor::from(numbers(1000, 2), {1000}), t);
  const auto read = test.device.start_read(t);
  CHECK(standin::counters().synchronisations == waits);
  go = true;
  CHECK(read->get().values<float>() == numbers(1000, 2));
}

TEST_CASE("device: every wait goes through the hook, which may end it") {
  DeviceUnderTest test;
  Tensor t = test.upload(numbers(100));
  Tensor host(host_allocator(), {100}, Dtype::f32);
  bool go = false;
  standin::enqueue_polled(test.device.compute_stream(), "held up", [&go] { return go; });
  const auto read = test.device.start_read(t);
  test.device.set_host_wait([](const std::function<bool()>& done) {
    for (int i = 0; i < 50; ++i) {
      if (done()) return;
    }
    fail("rank 3 is missing");
  });
  CHECK(error_text([&] { test.device.copy(t, host); }) == "rank 3 is missing");
  CHECK(error_text([&] { read->get(); }) == "rank 3 is missing");
  CHECK(error_text([&] { test.device.synchronize(); }) == "rank 3 is missing");
  CHECK(error_text([&] { test.device.trim(); }) == "rank 3 is missing");
  go = true;
  test.device.synchronize();
  CHECK(read->get().values<float>() == numbers(100));
  test.device.copy(t, host);
  CHECK(host.values<float>() == numbers(100));
}

TEST_CASE("device: synchronize waits for all that was given") {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    DeviceUnderTest test(seed);
    int ran = 0;
    standin::enqueue(test.device.compute_stream(), "work", [&ran] { ++ran; });
    standin::enqueue(test.device.copy_stream(), "work", [&ran] { ++ran; });
    test.device.synchronize();
    CHECK(ran == 2);
  }
}

TEST_CASE("device: memory is counted, and trim gives back what nobody uses") {
  DeviceUnderTest test;
  Tensor t = test.device.tensor({1 << 20});
  CHECK(test.device.memory().in_use >= t.bytes());
  t = {};
  CHECK(test.device.memory().in_use == 0);
  CHECK(test.device.memory().peak >= size_t{4} << 20);
  CHECK(test.device.memory().reserved > 0);
  test.device.trim();
  CHECK(test.device.memory().reserved == 0);
}

TEST_CASE("device: out of memory says what the memory is used for") {
  DeviceUnderTest test(1, {.memory_limit = int64_t{64} << 20});
  std::vector<Tensor> held;
  const auto take = [&](MemoryUse use, int64_t bytes) {
    const MemoryScope scope(test.device, use);
    held.push_back(test.device.tensor({bytes}, Dtype::u8));
  };
  take(MemoryUse::centers, int64_t{20} << 20);
  take(MemoryUse::activations, int64_t{30} << 20);
  const std::string text = error_text([&] { take(MemoryUse::activations, int64_t{25} << 20); });
  CHECK(contains_all(text, {"asked for 25.0 MiB for activations", "class centres 20.0 MiB", "activations 30.0 MiB",
                            "limit: 64.0 MiB", "hint: set model.recompute: all", "or raise train.accumulate"}));
}

TEST_CASE("device: what it is") {
  standin::TestMachine machine;
  machine.change([](standin::Options& options) { options.memory = size_t{80} << 30; });
  const CudaDevice device({});
  CHECK(device.kind() == DeviceKind::cuda);
  CHECK_FALSE(device.is_host());
  CHECK(device.description() == "stand-in, 80.0 GiB, sm_90");
  const std::string versions = device.library_versions();
  const std::string cuda = fmt::format("{}.{}", CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
  CHECK(contains_all(versions, {"CUDA " + cuda + ", driver " + cuda, "cuBLASLt ", "cuDNN 9."}));
}

TEST_CASE("device: bf16 and tf32 want compute capability 8.0") {
  standin::TestMachine machine;
  const int major = GENERATE(7, 8, 9);
  machine.change([&](standin::Options& options) {
    options.capability_major = major;
    options.capability_minor = major == 7 ? 5 : 0;
  });
  const CudaDevice device({});
  CHECK(device.capability() == (major == 7 ? 75 : major * 10));
  CHECK(device.supports(Dtype::f32));
  CHECK(device.supports(Dtype::f16));
  CHECK(device.supports(Dtype::bf16) == (major >= 8));
  CHECK(device.supports_tf32() == (major >= 8));
}

TEST_CASE("device: one that is not there or too old is refused") {
  standin::TestMachine machine;
  machine.change([](standin::Options& options) { options.devices = 2; });
  CHECK(contains(error_text([] { CudaDevice({.device = 2}); }), "there is no GPU 2: this process sees 2"));
  CHECK(error_text([] { CudaDevice({.device = 1}); }).empty());
  machine.change([](standin::Options& options) {
    options.capability_major = 6;
    options.capability_minor = 1;
  });
  CHECK(contains_all(error_text([] { CudaDevice({}); }), {"stand-in has compute capability 6.1", "device: cpu"}));
  machine.change([](standin::Options& options) { options.devices = 0; });
  CHECK(contains(error_text([] { CudaDevice({}); }), "device: cpu"));
}

TEST_CASE("device: copies between unlike tensors are a bug") {
  DeviceUnderTest test;
  Tensor three = test.device.tensor({3}), doubles = test.device.tensor({4}, Dtype::f64);
  const Tensor four = test.device.tensor({4});
  CHECK_THROWS_AS(test.device.copy(four, three), LogicError);
  CHECK_THROWS_AS(test.device.copy(four, doubles), LogicError);
}

TEST_CASE("device: nothing is left behind") {
  const int64_t before = standin::live_device_bytes();
  {
    DeviceUnderTest test;
    const Tensor t = test.upload(numbers(100'000));
    const auto read = test.device.start_read(t);
  }
  CHECK(standin::live_device_bytes() == before);
}

}  // namespace plsc::test
