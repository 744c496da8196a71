// Which GPUs this process can use, or in one line why none.
#include <cuda_runtime_api.h>

#include <cstdlib>

#include "backend/backend.h"
#include "backend/cuda/check.h"

namespace plsc {
namespace {

std::string version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

/// Why cudaGetDeviceCount found none.
std::string problem_of(cudaError_t status) {
  int driver = 0;  // stays 0 where there is no driver at all
  cudaDriverGetVersion(&driver);
  cudaGetLastError();  // told here, not by a later call
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (status == cudaErrorInsufficientDriver && driver > 0) {
    return fmt::format(
        "the NVIDIA driver of this machine supports CUDA {}, but plsc-train was built with CUDA {}: install a newer "
        "driver, or build with an older CUDA",
        version_text(driver), version_text(CUDART_VERSION));
  }
  if (driver == 0) return "this machine has no GPU, or no NVIDIA driver for it";
  if (status != cudaSuccess && status != cudaErrorNoDevice) {
    return fmt::format("CUDA cannot start here: {}", cudaGetErrorString(status));
  }
  if (visible != nullptr) return fmt::format("CUDA_VISIBLE_DEVICES='{}' leaves no GPU", visible);
  return "this machine has no GPU";
}

std::string hex(const cudaUUID_t& uuid) {
  std::string text;
  for (const char byte : uuid.bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return text;
}

}  // namespace

CudaProbe probe_cuda() {
  CudaProbe probe;
  probe.built = true;
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    probe.problem = problem_of(status);
    return probe;
  }
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp gpu;
    check(cudaGetDeviceProperties(&gpu, i), "cudaGetDeviceProperties");
    probe.gpus.push_back(
        {gpu.name, hex(gpu.uuid), gpu.major * 10 + gpu.minor, static_cast<int64_t>(gpu.totalGlobalMem)});
  }
  return probe;
}

}  // namespace plsc
