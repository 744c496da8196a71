// The CUDA device and the ops that need no vendor library, as a real GPU can be asked: these cases run on the stand-in
// and, where there is one, on a GPU.
#include <random>

#include "backend/cuda/compress_ops_cuda.h"
#include "backend/cuda/cuda_device.h"
#include "backend/cuda/image_ops_cuda.h"
#include "backend/cuda/optim_ops_cuda.h"
#include "base/clock.h"
#include "parity/backend/cases.h"
#include "parity/backend/values.h"
#include "support/error_text.h"
#include "support/step_state.h"

namespace plsc::test {
namespace {

/// A backend without networks.
Backend make_backend() {
  Backend backend;
  auto device = std::make_unique<CudaDevice>(CudaOptions{});
  CudaDevice& cuda = *device;
  backend.device = std::move(device);
  backend.step_state = make_step_state(cuda);
  backend.optim = make_cuda_optim_ops(cuda, static_cast<math::StepState*>(backend.step_state.raw()));
  backend.compress = make_cuda_compress_ops(cuda, static_cast<math::StepState*>(backend.step_state.raw()));
  backend.image = make_cuda_image_ops(cuda);
  return backend;
}

}  // namespace

TEST_CASE("cuda device: optimizer cases") {
  Backend backend = make_backend();
  optimizer_cases(backend);
  update_cases(backend);
  compress_cases(backend);
}

TEST_CASE("cuda device: image cases") {
  Backend backend = make_backend();
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
    if (backend.device->supports(dtype)) image_cases(backend, dtype);
  }
}

TEST_CASE("cuda device: marks keep the time of their places, by the host's clock") {
  CudaDevice device({});
  Tensor t = device.zeros({1 << 20});
  const double before = steady_seconds();
  const auto first = device.mark();
  std::vector<std::shared_ptr<const TimeMark>> marks;
  for (int i = 0; i < 20; ++i) {
    device.fill_zero(t);
    marks.push_back(device.mark());
  }
  device.synchronize();
  double last = first->seconds();
  CHECK(last >= before);
  for (const auto& mark : marks) {
    CHECK(mark->seconds() >= last);
    last = mark->seconds();
  }
  CHECK(last < before + 3600);             // seconds, and not their thousandths
  CHECK(marks.back()->seconds() == last);  // asked again
  device.set_clock();
  CHECK(marks.back()->seconds() == last);  // those before stay as they were
  const double later = steady_seconds();
  const auto next = device.mark();
  device.synchronize();
  CHECK(next->seconds() >= later - 3600);
}

TEST_CASE("cuda device: uploads beyond the ring, from one buffer that changes") {
  CudaDevice device({});
  std::mt19937_64 random(5);
  constexpr int64_t kLargest = 3 << 20;
  Tensor host(host_allocator(), {kLargest}, Dtype::u8);
  std::vector<Tensor> there;
  for (int i = 0; i < 80; ++i) {
    const auto bytes = static_cast<int64_t>(1 + random() % kLargest);
    std::fill_n(host.data<uint8_t>(), bytes, static_cast<uint8_t>(i));
    there.push_back(device.tensor({bytes}, Dtype::u8));
    device.copy(host.rows(0, bytes), there.back());
  }
  for (size_t i = 0; i < there.size(); ++i) {
    Tensor back(host_allocator(), there[i].shape(), Dtype::u8);
    device.copy(there[i], back);
    const auto values = back.span<uint8_t>();
    REQUIRE(std::all_of(values.begin(), values.end(), [i](uint8_t v) { return v == i; }));
  }
}

TEST_CASE("cuda device: reads keep their place, and memory may be released under work") {
  CudaDevice device({});
  constexpr int64_t kLength = 1 << 20;
  std::vector<std::unique_ptr<HostRead>> reads;
  for (int i = 0; i < 20; ++i) {
    Tensor values = device.tensor({kLength});
    device.copy(Tensor::from(std::vector<float>(kLength, static_cast<float>(i)), {kLength}), values);
    reads.push_back(device.start_read(values));
    device.fill_zero(values);
  }
  for (size_t i = 0; i < reads.size(); ++i) {
    const auto values = reads[i]->get().span<float>();
    REQUIRE(std::all_of(values.begin(), values.end(), [i](float v) { return v == static_cast<float>(i); }));
  }
}

TEST_CASE("cuda device: a recorded update is that of each replay's state") {
  Backend backend = make_backend();
  Device& device = *backend.device;
  constexpr int64_t kLength = 100'000;
  Param param;
  param.name = "w";
  param.value = device.zeros({kLength});
  param.momentum = device.zeros({kLength});
  param.grad = upload(device, Values(kLength, 1.0), {kLength});
  const ParamGroup group{{&param}, {}};
  const auto update = [&] {
    backend.optim->judge_gradients(std::span(&param.grad, 1));
    backend.optim->update(std::span(&group, 1));
    Tensor passing = device.tensor({kLength});  // memory of the recording
    device.copy(param.value, passing);
    device.copy(passing, param.momentum);
    device.fill_zero(param.momentum);
  };
  begin_step(backend, {.rule = {.lr = 0}});
  update();
  device.begin_recording(device.make_recording_memory());
  update();
  const auto recording = device.end_recording();
  double expected = 0;
  for (const float lr : {1.0f, 0.5f, 0.25f}) {
    begin_step(backend, {.rule = {.lr = lr}});
    recording->replay();
    expected -= static_cast<double>(lr);
    const Tensor other = upload(device, Values(kLength, 9.0), {kLength});
    CHECK(download(device, param.value) == Values(kLength, expected));
  }
}

TEST_CASE("cuda device: no more memory, and on with the rest") {
  CudaDevice device({.memory_limit = int64_t{200} << 20});
  const MemoryScope scope(device, MemoryUse::activations);
  const Tensor held = device.tensor({int64_t{100} << 20}, Dtype::u8);
  CHECK(contains_all(error_text([&] { device.tensor({int64_t{120} << 20}, Dtype::u8); }),
                     {"asked for 120.0 MiB for activations", "activations 100.0 MiB", "limit: 200.0 MiB"}));
  const Tensor fits = device.tensor({int64_t{80} << 20}, Dtype::u8);
  CudaDevice whole({});
  CHECK(contains(error_text([&] { whole.tensor({int64_t{1} << 50}, Dtype::u8); }),
                 "out of GPU memory: asked for 1.0 PiB"));
  CHECK(download(whole, whole.zeros({10})) == Values(10, 0.0));
}

TEST_CASE("cuda device: it is one that the probe found") {
  const CudaProbe probe = probe_cuda();
  REQUIRE_FALSE(probe.gpus.empty());
  CHECK(probe.problem.empty());
  const CudaDevice device({});
  CHECK(contains(device.description(), probe.gpus[0].name + ", "));
  CHECK(device.capability() == probe.gpus[0].capability);
  CHECK(probe.gpus[0].memory > 0);
  CHECK(contains_all(device.library_versions(), {"CUDA ", ", driver ", ", cuBLASLt ", ", cuDNN "}));
}

}  // namespace plsc::test
