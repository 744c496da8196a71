// Recorded work: not done while it is recorded, done again with new values at every replay, in memory that stays its.
#include "device_test.h"
#include "support/error_text.h"

namespace plsc::test {
namespace {

/// Records y = x by way of memory that is taken meanwhile.
std::unique_ptr<Recording> record_copy(CudaDevice& device, const Tensor& x, Tensor& y) {
  device.begin_recording(device.make_recording_memory());
  Tensor passing = device.tensor(x.shape());
  device.copy(x, passing);
  device.copy(passing, y);
  return device.end_recording();
}

}  // namespace

TEST_CASE("recording: nothing is done before a replay, and each finds the values of its time") {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    DeviceUnderTest test(seed);
    Tensor x = test.upload(numbers(300, 1)), y = test.device.zeros({300});
    const auto recording = record_copy(test.device, x, y);
    CHECK(test.download(y) == std::vector<float>(300));
    for (int i = 0; i < 3; ++i) {
      const std::vector<float> values = numbers(300, static_cast<float>(10 * i));
      test.device.copy(Tensor::from(values, {300}), x);
      recording->replay();
      const auto read = test.device.start_read(y);
      test.device.fill_zero(y);  // in its place in the order, too
      CHECK(read->get().values<float>() == values);
    }
  }
}

TEST_CASE("recording: its memory is nobody else's while it lives") {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    DeviceUnderTest test(seed);
    const Tensor x = test.upload(numbers(300, 1));
    Tensor y = test.device.zeros({300});
    auto recording = record_copy(test.device, x, y);
    std::vector<Tensor> others;
    for (int i = 0; i < 50; ++i) others.push_back(test.upload(numbers(300, 1000)));
    recording->replay();
    CHECK(test.download(y) == numbers(300, 1));
    for (const Tensor& t : others) CHECK(test.download(t) == numbers(300, 1000));
    // Dropped behind a replay that is still under way.
    recording->replay();
    recording.reset();
    for (int i = 0; i < 50; ++i) others.push_back(test.upload(numbers(300, 2000)));
    CHECK(test.download(y) == numbers(300, 1));
    CHECK(test.download(others.back()) == numbers(300, 2000));
  }
}

TEST_CASE("recording: memory that is released meanwhile stays for the replays") {
  DeviceUnderTest test;
  Tensor x = test.upload(numbers(300, 5)), y = test.device.zeros({300});
  test.device.begin_recording(test.device.make_recording_memory());
  test.device.copy(x, y);
  x = {};
  const auto recording = test.device.end_recording();
  std::vector<Tensor> others;
  for (int i = 0; i < 50; ++i) others.push_back(test.upload(numbers(300, 1000)));
  recording->replay();
  CHECK(test.download(y) == numbers(300, 5));
}

TEST_CASE("recording: several, replayed in turn, allocate nothing") {
  DeviceUnderTest test;
  Tensor x = test.upload(numbers(300, 1));
  Tensor y = test.device.zeros({300}), z = test.device.zeros({300});
  const auto first = record_copy(test.device, x, y);
  const auto second = record_copy(test.device, y, z);
  const int64_t allocations = standin::counters().device_allocations;
  const int64_t launches = standin::counters().graph_launches;
  for (int i = 0; i < 5; ++i) {
    first->replay();
    second->replay();
  }
  CHECK(test.download(z) == numbers(300, 1));
  CHECK(standin::counters().device_allocations == allocations);
  CHECK(standin::counters().graph_launches == launches + 10);
}

TEST_CASE("recording: several in one memory use again what the ones before have released") {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    DeviceUnderTest test(seed);
    Tensor x = test.upload(numbers(300, 1)), y = test.device.zeros({300}), z = test.device.zeros({300});
    const auto memory = test.device.make_recording_memory();
    const void* passing[2] = {};
    std::unique_ptr<Recording> recordings[2];
    for (int i = 0; i < 2; ++i) {
      test.device.begin_recording(memory);
      Tensor t = test.device.tensor({300});
      passing[i] = t.raw();
      test.device.copy(i == 0 ? x : y, t);
      test.device.copy(t, i == 0 ? y : z);
      t = {};
      recordings[i] = test.device.end_recording();
    }
    CHECK(passing[0] == passing[1]);
    for (int turn = 0; turn < 3; ++turn) {
      const std::vector<float> values = numbers(300, static_cast<float>(100 * turn));
      test.device.copy(Tensor::from(values, {300}), x);
      for (const auto& recording : recordings) recording->replay();
      CHECK(test.download(z) == values);
    }
    // One of them keeps the memory of all.
    recordings[0].reset();
    std::vector<Tensor> others;
    for (int i = 0; i < 50; ++i) {
      others.push_back(test.device.tensor({300}));
      CHECK(others.back().raw() != passing[0]);
    }
  }
}

TEST_CASE("recording: a trim before it makes room of what was kept for others") {
  DeviceUnderTest test(1, {.memory_limit = int64_t{96} << 20});
  Tensor x = test.upload(numbers(100, 2)), y = test.device.zeros({int64_t{12} << 20});  // 48 MiB
  Tensor passing = test.device.tensor({int64_t{8} << 20});                              // 32 MiB
  test.device.fill_zero(passing);
  passing = {};
  test.device.trim();
  test.device.begin_recording(test.device.make_recording_memory());
  {
    const Tensor inside = test.device.tensor({int64_t{10} << 20});  // 40 MiB
    Tensor head = inside.slice(0, {100}), result = y.slice(0, {100});
    test.device.copy(x, head);
    test.device.copy(head, result);
  }
  const auto recording = test.device.end_recording();
  recording->replay();
  CHECK(test.download(y.slice(0, {100})) == numbers(100, 2));
}

TEST_CASE("recording: what cannot be recorded is a bug, and leaves nothing behind") {
  DeviceUnderTest test;
  Tensor x = test.upload(numbers(10));
  Tensor host(host_allocator(), {10}, Dtype::f32);
  CHECK_THROWS_AS(test.device.end_recording(), LogicError);
  test.device.begin_recording(test.device.make_recording_memory());
  CHECK_THROWS_AS(test.device.copy(x, host), LogicError);
  CHECK_THROWS_AS(test.device.copy(host, x), LogicError);
  CHECK_THROWS_AS(test.device.start_read(x), LogicError);
  CHECK_THROWS_AS(test.device.synchronize(), LogicError);
  CHECK_THROWS_AS(test.device.begin_recording(test.device.make_recording_memory()), LogicError);
  CHECK(test.device.end_recording() == nullptr);  // of nothing
  CHECK(test.download(x) == numbers(10));
}

TEST_CASE("recording: a device that ends in the middle of one") {
  const int64_t before = standin::live_device_bytes();
  {
    DeviceUnderTest test;
    test.device.begin_recording(test.device.make_recording_memory());
    Tensor t = test.device.zeros({100});
  }
  CHECK(standin::live_device_bytes() == before);
}

}  // namespace plsc::test
