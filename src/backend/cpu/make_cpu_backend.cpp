// Puts the CPU backend together.
#include <omp.h>

#include "backend/backend.h"
#include "backend/cpu/cpu_device.h"
#include "backend/cpu/head_ops_cpu.h"
#include "backend/cpu/neighbour_ops_cpu.h"
#include "backend/cpu/ops_cpu.h"

namespace plsc {

Backend make_cpu_backend(int threads) {
  Backend backend;
  backend.device = std::make_unique<CpuDevice>(threads);
  // oneDNN takes its number of threads from OpenMP, for the calling thread.
  omp_set_num_threads(threads);
  Device& device = *backend.device;
  backend.step_state = make_step_state(device);
  auto* state = static_cast<math::StepState*>(backend.step_state.raw());
  backend.nn = make_cpu_nn_ops(device, state);
  backend.head = make_cpu_head_ops(device, state);
  backend.neighbours = make_cpu_neighbour_ops(device);
  backend.optim = make_cpu_optim_ops(device, state);
  backend.compress = make_cpu_compress_ops(device, state);
  backend.image = make_cpu_image_ops(device);
  return backend;
}

}  // namespace plsc
