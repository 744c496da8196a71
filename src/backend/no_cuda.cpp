// A program without CUDA: a build without it, or the one that a bundle starts where the node lacks CUDA's libraries.
// The bundle's script then says in the environment what it has looked for and what to do.
#include <cstdlib>

#include "backend/backend.h"
#include "backend/device_health.h"

namespace plsc {

Backend make_cuda_backend(const CudaOptions&) {
  const CudaProbe probe = probe_cuda();
  fail_hint(probe.remedy.empty() ? "use device: cpu, or auto" : probe.remedy, "device: cuda: {}", probe.problem);
}

void cuda_narrow_bf16(const float*, int64_t, uint16_t*, int64_t, void*) {
  PLSC_CHECK(false, "a build without CUDA sees no GPU");
}
void cuda_sum_bf16(const uint16_t*, int, int64_t, uint16_t*, void*) {
  PLSC_CHECK(false, "a build without CUDA sees no GPU");
}
void cuda_widen_bf16(const uint16_t*, float*, int64_t, void*) { PLSC_CHECK(false, "a build without CUDA sees no GPU"); }

CudaProbe probe_cuda() {
  CudaProbe probe;
  const char* problem = std::getenv("PLSC_CUDA_PROBLEM");
  const char* remedy = std::getenv("PLSC_CUDA_REMEDY");
  probe.built = problem != nullptr;
  probe.problem = problem != nullptr ? problem : "this build of plsc-train has no CUDA backend";
  if (remedy != nullptr) probe.remedy = remedy;
  return probe;
}

CudaHealth examine_cuda() {
  CudaHealth health;
  health.problem = probe_cuda().problem;
  return health;
}

DevicePlace place_of(Device&) { return {}; }

int64_t second_level_cache(int) { PLSC_CHECK(false, "a build without CUDA sees no GPU"); }

CopyRates measure_copies(Device&) { return {}; }

}  // namespace plsc
