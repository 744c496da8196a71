// A build without CUDA.
#include "backend/backend.h"
#include "backend/device_health.h"

namespace plsc {

Backend make_cuda_backend(const CudaOptions&) {
  fail_hint("use device: cpu, or auto", "device: cuda: this build of plsc-train has no CUDA backend");
}

CudaProbe probe_cuda() {
  CudaProbe probe;
  probe.problem = "this build of plsc-train has no CUDA backend";
  return probe;
}

CudaHealth examine_cuda() {
  CudaHealth health;
  health.problem = probe_cuda().problem;
  return health;
}

DevicePlace place_of(Device&) { return {}; }

CopyRates measure_copies(Device&) { return {}; }

}  // namespace plsc
