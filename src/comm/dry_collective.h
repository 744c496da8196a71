// Ranks that are not there: collectives complete at once and move nothing, but say what this rank would have sent.
#pragma once
#include <functional>
#include <memory>

#include "comm/collective.h"

namespace plsc {

struct DryWorld {
  int ranks = 1;
  /// Tensors are of a dry run's device and not looked at. Otherwise they are host values, and every other rank is taken
  /// to have this rank's.
  bool of_device = true;
  /// Told the bytes that this rank sends in one collective, as rings and trees move them at best; may be empty.
  std::function<void(double bytes)> sends;
  /// Told the bytes of host memory that a collective by MPI takes to receive into, and gives back (negative) when its
  /// request goes; may be empty.
  std::function<void(double bytes)> buffers;
};

/// This rank is number 0, which has no fewer classes and samples than any other.
std::unique_ptr<Collective> make_dry_collective(const DryWorld& world);

}  // namespace plsc
