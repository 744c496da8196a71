// A backend that has the network's ops alone, for their parity cases: on the stand-in or on a GPU.
#pragma once
#include "backend/cuda/cuda_device.h"
#include "backend/cuda/nn_ops_cuda.h"

namespace plsc::test {

class NnBackend {
 public:
  NnBackend() {
    auto device = std::make_unique<CudaDevice>(CudaOptions{});
    const cudaStream_t stream = device->compute_stream();
    backend.device = std::move(device);
    backend.step_state = make_step_state(*backend.device);
    runtime_ = std::make_unique<CudaRuntime>(*backend.device, stream, CudaRuntimeOptions{.deterministic = true});
    backend.nn =
        make_cuda_nn_ops(*runtime_, reinterpret_cast<const math::StepState*>(backend.step_state.data<double>()));
  }
  ~NnBackend() { backend.nn.reset(); }  // before what it works with
  NnBackend(const NnBackend&) = delete;
  NnBackend& operator=(const NnBackend&) = delete;

  Backend backend;

 private:
  std::unique_ptr<CudaRuntime> runtime_;
};

}  // namespace plsc::test
