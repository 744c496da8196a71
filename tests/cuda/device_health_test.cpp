// What the doctor asks of GPUs: on the stand-in, and on a GPU where there is one.
#include "backend/device_health.h"

#include "backend/backend.h"
#include "support/catch.h"

namespace plsc::test {

TEST_CASE("device health: what is found agrees with the probe, and nothing stays behind") {
  const CudaProbe probe = probe_cuda();
  for (int turn = 0; turn < 2; ++turn) {  // the second one would meet what the first had left
    const CudaHealth health = examine_cuda();
    CHECK(health.built);
    CHECK(health.problem.empty());
    CHECK_FALSE(health.driver_cuda.empty());
    REQUIRE(health.gpus.size() == probe.gpus.size());
    for (size_t i = 0; i < health.gpus.size(); ++i) {
      const GpuHealth& gpu = health.gpus[i];
      CHECK(gpu.problem.empty());
      CHECK(gpu.name == probe.gpus[i].name);
      CHECK(gpu.capability == probe.gpus[i].capability);
      CHECK(gpu.memory > 0);
      CHECK(gpu.free > 0);
      CHECK(gpu.free <= gpu.memory);
      CHECK(gpu.bus.size() == 12);
      for (const int peer : gpu.peers) CHECK(peer != static_cast<int>(i));
      // The tests themselves run on it.
      CHECK(code_for(gpu.capability, health.architectures) != GpuCode::none);
    }
    REQUIRE(health.libraries.size() == 3);
    for (const LibraryVersion& library : health.libraries) {
      CHECK(library.found.find('.') != std::string::npos);
      CHECK(library.built.find('.') != std::string::npos);
    }
  }
}

TEST_CASE("device health: copies have rates, and their memory is given back") {
  const Backend backend = make_cuda_backend({});
  Device& device = *backend.device;
  const DevicePlace before = place_of(device);
  const size_t in_use = device.memory().in_use;
  const CopyRates rates = measure_copies(device);
  CHECK(rates.to_device > 0);
  CHECK(rates.to_host > 0);
  CHECK(rates.on_device > 0);
  CHECK(device.memory().in_use == in_use);
  CHECK(before.number == 0);
  CHECK(before.total > 0);
  CHECK(second_level_cache(before.number) > 1 << 20);
  const DevicePlace after = place_of(device);
  // What is kept for reuse counts as free, but for the arena's own rounding.
  CHECK(after.free > before.free - before.total / 50);
}

}  // namespace plsc::test
