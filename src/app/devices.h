// Which device each rank computes on, what its configuration's `auto` comes to there, and how the ranks' tensors
// travel. Decisions alone, as functions of what was found: who asks the machine and the other ranks is app/build.cpp.
#pragma once
#include <string>
#include <vector>

#include "backend/backend.h"
#include "config/config.h"

namespace plsc {

/// The GPUs that this process may take: numbers among those that it sees, in the order of `gpus`. Empty: the CPU, which
/// is what `device: cpu` asks for, and `device: auto` where there is no GPU. Error where there is none and the
/// configuration insists (device: cuda, comm.backend: nccl), and where `gpus` names one that is not there.
std::vector<int> usable_gpus(const Config& config, const CudaProbe& probe);

/// Ranks to start where `ranks` is auto: one a usable GPU, or one.
int automatic_ranks(const Config& config, const CudaProbe& probe);

/// What one rank sees, and all ranks are told.
struct RankGpus {
  int node = 0;  // the same number for the ranks of one host
  std::string host;
  std::vector<std::string> ids;  // of its usable GPUs: CudaProbe::Gpu::id
};

/// Where the ranks are to compute.
struct Placement {
  std::vector<int> gpu;  // by rank: place in its RankGpus::ids; empty: on the CPU
  bool shared = false;   // several ranks have one GPU
};
/// Each rank takes the first of its GPUs that no rank of its host before it has; so they part where all see the same
/// ones, and where each was bound to its own. Where none is left they share evenly, if they may. Error where they may
/// not, and where one rank sees a GPU and another does not. The same on every rank.
Placement place_ranks(const std::vector<RankGpus>& ranks, bool may_share);

/// How tensors of the device travel between ranks.
enum class Transport {
  local,   // one rank
  host,    // the device's memory is the host's: MPI
  staged,  // through host memory by MPI
  nccl,
};
/// As comm.backend says; auto: NCCL where every rank has a GPU of its own. Error where ranks share a GPU and it says
/// nccl, or where it does on a CPU.
Transport choose_transport(const Config& config, const Placement& placement, int ranks);

/// What the arithmetic is, once the device is known.
struct Arithmetic {
  std::string precision;           // fp32, tf32, bf16 or fp16: never auto
  Dtype activations = Dtype::f32;  // of the network
  bool tf32 = false;
  bool loss_scaling = false;    // fp16
  bool deterministic = false;   // on a GPU: algorithms that repeat
  bool sums_in_double = false;  // on a CPU: exact sums
};
/// `gpu`: null on a CPU. Error naming what the device lacks, and what to choose instead.
Arithmetic choose_arithmetic(const Config& config, const CudaProbe::Gpu* gpu, bool cpu_has_bf16);

/// "cuda: 2 GPUs here, NVIDIA H200" or "cpu: this machine has no GPU": for the log, where `device: auto` was to choose.
/// Empty where nothing was: in a build without CUDA there is nothing to say.
std::string explain_automatic_device(const Config& config, const CudaProbe& probe);

}  // namespace plsc
