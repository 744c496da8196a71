// Ranks that are not there: collectives complete at once and move nothing, but say what this rank would have sent.
#pragma once
#include <functional>
#include <memory>

#include "comm/collective.h"

namespace plsc {

/// One collective, as it starts.
struct DryTraffic {
  double bytes = 0;  // that all ranks have in the end, or had to begin with: of the whole tensor
  int passes = 1;    // of these over the ranks: an all-reduce sums them, and spreads the sums
  int ranks = 1;     // that take part
  /// A small all-reduce over MPI: each rank sends all of it to every other, at once.
  bool small = false;
  /// What one of them sends, as rings and trees move it at best.
  double sent() const { return (small ? ranks : passes) * bytes * (ranks - 1) / ranks; }
  /// In how many messages, where each rank sends to every other itself, as over MPI.
  int64_t messages() const { return int64_t{small ? 1 : passes} * (ranks - 1); }
};

struct DryWorld {
  int ranks = 1;
  /// Tensors are of a dry run's device and not looked at. Otherwise they are host values, and every other rank is taken
  /// to have this rank's.
  bool of_device = true;
  /// Told of each collective but barriers when it starts; what it answers `waits` is told when it is waited for. Both
  /// may be empty.
  std::function<int64_t(const DryTraffic& traffic)> starts;
  std::function<void(int64_t started)> waits;
  /// Told the bytes of host memory that a collective by MPI takes to receive into, and gives back (negative) when its
  /// request goes; may be empty.
  std::function<void(double bytes)> buffers;
  /// Told the bytes of device memory that NCCL's sum in bf16 takes, of which it keeps the most; may be empty.
  std::function<void(double bytes)> rooms{};
  /// What is of the device is exchanged over MPI.
  bool mpi = false;
};

/// This rank is number 0, which has no fewer classes and samples than any other.
std::unique_ptr<Collective> make_dry_collective(const DryWorld& world);

}  // namespace plsc
