// Collectives over all MPI ranks, for host memory. No MPI types here: only src/comm/mpi*.cpp sees mpi.h.
#pragma once
#include <memory>

#include "comm/collective.h"
#include "comm/wait.h"

namespace plsc {

/// What is under way in this process, shared by its collectives: waiting for one request advances all of them, and a
/// thread does meanwhile (comm/mpi_progress.h).
class MpiProgress;
std::shared_ptr<MpiProgress> make_mpi_progress();
/// Ends its thread, before MPI is finalised or aborted.
void stop_mpi_progress(MpiProgress& progress) noexcept;

/// On a communicator of its own (a copy of MPI_COMM_WORLD; all ranks make their collectives in the same order).
/// MPI must be initialised, and must still be when the last request is destroyed.
///
/// Reductions are ours, over point-to-point messages: every rank sums its share of the elements over all ranks in rank
/// order, then shares it. Each element's sum is ((r0 + r1) + r2) + ..., on every rank, whatever the tensor's size.
/// (A direct exchange: the least traffic, and W - 1 messages a rank, which suits up to some hundred ranks.)
std::unique_ptr<Collective> make_mpi_collective(const WaitPolicy& policy, std::shared_ptr<MpiProgress> progress);

}  // namespace plsc
