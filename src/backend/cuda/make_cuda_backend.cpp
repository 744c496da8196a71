// Puts the CUDA backend together.
#include "backend/backend.h"
#include "backend/cuda/compress_ops_cuda.h"
#include "backend/cuda/cuda_device.h"
#include "backend/cuda/head_ops_cuda.h"
#include "backend/cuda/image_ops_cuda.h"
#include "backend/cuda/neighbour_ops_cuda.h"
#include "backend/cuda/nn_ops_cuda.h"
#include "backend/cuda/optim_ops_cuda.h"
#include "backend/cuda/vendor_handles.h"

namespace plsc {

Backend make_cuda_backend(const CudaOptions& options) {
  Backend backend;
  auto device = std::make_unique<CudaDevice>(options);
  CudaDevice& gpu = *device;
  backend.device = std::move(device);
  const auto runtime = std::make_shared<CudaRuntime>(
      gpu, gpu.compute_stream(), CudaRuntimeOptions{.tf32 = options.tf32, .deterministic = options.deterministic});
  backend.libraries = runtime;
  backend.step_state = make_step_state(gpu);
  auto* state = static_cast<math::StepState*>(backend.step_state.raw());
  backend.nn = make_cuda_nn_ops(*runtime, state);
  backend.head = make_cuda_head_ops(gpu, *runtime, state);
  backend.neighbours = make_cuda_neighbour_ops(*runtime);
  backend.optim = make_cuda_optim_ops(gpu, state);
  backend.compress = make_cuda_compress_ops(gpu, state);
  backend.image = make_cuda_image_ops(gpu);
  return backend;
}

}  // namespace plsc
