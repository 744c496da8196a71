#include "backend/cuda/vendor_handles.h"

#include <algorithm>

#include "backend/cuda/conv_cuda.h"
#include "backend/cuda/gemm.h"

namespace plsc {
namespace {

cublasLtHandle_t new_blas() {
  cublasLtHandle_t handle = nullptr;
  check(cublasLtCreate(&handle), "cublasLtCreate");
  return handle;
}

cudnnHandle_t new_dnn() {
  cudnnHandle_t handle = nullptr;
  check(cudnnCreate(&handle), "cudnnCreate");
  return handle;
}

/// A sixteenth of the device at most. By its size and not by what is free now: the choice of algorithms, and with it
/// the bits of a run, must not depend on who else uses the device.
CudaRuntimeOptions bounded(CudaRuntimeOptions options) {
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  options.conv_workspace = std::min(options.conv_workspace, total / 16);
  return options;
}

}  // namespace

CudaRuntime::CudaRuntime(Device& on, cudaStream_t compute, const CudaRuntimeOptions& wanted)
    : device(on),
      stream(compute),
      options(bounded(wanted)),
      blas(new_blas()),
      dnn(new_dnn()),
      gemms(std::make_unique<GemmCache>(*this)),
      convs(std::make_unique<ConvAlgorithms>()) {
  check(cudnnSetStream(dnn.get(), stream), "cudnnSetStream");
}

CudaRuntime::~CudaRuntime() = default;

}  // namespace plsc
