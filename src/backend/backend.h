// The compute seam as a whole. CPU and CUDA run the same head, trainer and checkpoint code; only these differ.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "backend/compress_ops.h"
#include "backend/device.h"
#include "backend/head_ops.h"
#include "backend/image_ops.h"
#include "backend/neighbour_ops.h"
#include "backend/nn_ops.h"
#include "backend/optim_ops.h"
#include "kernels/math/step_state.h"

namespace plsc {

struct Backend {
  // The device comes first: it outlives the ops, which hold memory of it.
  std::unique_ptr<Device> device;
  /// What the ops share beside it: handles of libraries, plans. They outlive the ops, too.
  std::shared_ptr<void> libraries;
  /// A math::StepState in device memory, fp64 elements of 8 bytes each. The ops know where it is.
  Tensor step_state;
  std::unique_ptr<NnOps> nn;
  std::unique_ptr<HeadOps> head;
  std::unique_ptr<NeighbourOps> neighbours;
  std::unique_ptr<OptimOps> optim;
  std::unique_ptr<CompressOps> compress;
  std::unique_ptr<ImageOps> image;
};

/// A fresh state in the device's memory: for those who put a backend together.
Tensor make_step_state(Device& device);
/// Begins a step: its inputs, and no overflow yet. Between micro-batches it may be called again with another
/// first_sample, by `next_micro_batch`, which leaves the rest alone.
void begin_step(Backend& backend, const math::StepInputs& inputs);
void next_micro_batch(Backend& backend, const math::StepInputs& inputs);
/// The state as it is at this place of the device's order; waits for nothing.
std::unique_ptr<HostRead> start_state_read(Backend& backend);
math::StepState to_step_state(const Tensor& host);
/// {overflow, failed} (2) fp64, sharing the state's memory: for a maximum over the ranks.
Tensor step_flags(Backend& backend);
/// For a start and a resume; in fp32 and bf16 it is 1 for ever.
void set_loss_scale(Backend& backend, const math::LossScale& scale);
/// For a resume: how many updates were made before it, which bias corrections count.
void set_updates(Backend& backend, int64_t updates);

/// oneDNN and our own kernels, on `threads` threads of this process.
Backend make_cpu_backend(int threads);

struct CudaOptions {
  int device = 0;  // its number among those that this process sees
  bool tf32 = false;
  bool deterministic = false;  // algorithms that give the same bits every time
  int64_t memory_limit = 0;    // bytes; 0: what the device has
};
/// cuDNN, cuBLASLt and our own kernels on one GPU. Error naming what this build or machine lacks.
Backend make_cuda_backend(const CudaOptions& options);

// The arithmetic of sums between GPUs in bf16, for whoever joins them (comm/nccl.h says what each does): on device
// memory, in the order of a stream, a cudaStream_t. LogicError in a build without CUDA.
void cuda_narrow_bf16(const float* from, int64_t n, uint16_t* to, int64_t padded, void* stream);
void cuda_sum_bf16(const uint16_t* parts, int ranks, int64_t n, uint16_t* out, void* stream);
void cuda_widen_bf16(const uint16_t* from, float* to, int64_t n, void* stream);

/// What CUDA finds on this machine.
struct CudaProbe {
  struct Gpu {
    std::string name;    // "NVIDIA H200"
    std::string id;      // differs from GPU to GPU, on all machines
    int capability = 0;  // 90 for 9.0
    int64_t memory = 0;  // bytes
  };
  bool built = false;     // this program was built with CUDA
  std::vector<Gpu> gpus;  // those that this process sees
  std::string problem;    // one line, where there is none
  std::string remedy;     // what to do about it, where more is known than "use the CPU"
};
CudaProbe probe_cuda();

}  // namespace plsc
