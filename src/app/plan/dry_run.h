// One rank's training, run on a backend that computes nothing: the network, the head and the step are those of a
// training, so that the memory that they take and the work that they give is asked of them and not estimated beside.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/devices.h"
#include "backend/dry/gpu_traits.h"
#include "backend/dry/tally.h"
#include "config/config.h"

namespace plsc::plan {

/// What would run. Everything is of rank 0, which has no less to do than any other.
struct Setup {
  Config config;
  int ranks = 1;
  int ranks_per_host = 1;  // at most
  int64_t classes = 0;
  DeviceKind device = DeviceKind::cpu;
  int threads = 1;  // of a rank, on a CPU
  Arithmetic arithmetic;
  GpuTraits gpu;
  /// Bytes of a process that has loaded its libraries: with CUDA's it is three times as large as without. 0: not known.
  int64_t program = 0;
  bool running = false;  // and these are of a process where MPI and the GPU's context, which take more, are begun
};

/// Bytes by purpose.
struct Purpose {
  std::string name;  // "class centres"
  double bytes = 0;
};

/// The names of purposes that others than those who print them ask for.
namespace purpose {
inline constexpr const char* kWeights = "weights";
inline constexpr const char* kMomentum = "momentum";
inline constexpr const char* kAverages = "averaged weights";
inline constexpr const char* kCentres = "class centres";
inline constexpr const char* kTheirMomentum = "their momentum";
inline constexpr const char* kTheirSecondMoments = "their second moments";
inline constexpr const char* kTheirLastUpdates = "their last updates";
inline constexpr const char* kActivations = "activations";
inline constexpr const char* kWorkspaces = "workspaces";
}  // namespace purpose

struct DryRun {
  int64_t parameters = 0;        // of the network, without buffers
  int64_t rows = 0;              // classes of the rank
  int64_t active = 0;            // of these, in a step
  int64_t images = 0;            // of the rank, a step
  std::vector<Purpose> device;   // what is in use at the peak; on a CPU this is host memory
  int64_t warm_up = 0;           // epochs of compressed gradients: `device` is of them, `phases` are of a step behind
  std::string moment;            // of the peak: "forward", as the step calls its phases, or "building the class graph"
  double kept = 0;               // bytes beyond that: of a CPU's blocks that are kept, of a GPU's as they round up
  double counted = 0;            // what the device itself would say it held at most (DeviceMemory::most): on a GPU
                                 // with what it keeps to be used again, and for recordings
  double own_momentum = 0;       // of the network's: of compressed gradients, and of nobody's else
  std::vector<Purpose> host;     // memory of the host that the process takes besides
  std::vector<DryPhase> phases;  // of one step
  std::vector<DryMoment> moments;  // of it, in order
  std::optional<DryPhase> graph;   // of building the class graph once, where classes are sampled by it

  double device_bytes() const;  // all of it, with `kept`
  double host_bytes() const;
  /// Bytes of one purpose, of device and host together. There is one of that name.
  double of(const std::string& name) const;
};

/// The most classes of which there can be a dry run, or a training.
int64_t most_classes(const Setup& setup);

/// Of a batch that grows these are the largest steps. Throws Error where such a training could not be: a batch too
/// small for the ranks, a network that does not take the images, more than most_classes.
DryRun dry_run(const Setup& setup);

}  // namespace plsc::plan
