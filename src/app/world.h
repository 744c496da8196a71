// Runs one command on all ranks of this process's world, and turns its errors into one message and one exit status.
#pragma once
#include <functional>

#include "comm/world.h"

namespace plsc {

/// Opens the world, calls `body(world)`, and leaves in order with what body returns. Starters end all ranks as soon as
/// one has left with another status than 0: where there are several ranks, rank 0 alone returns it, a moment after the
/// others have returned 0, and it is the status of mpirun or srun. An error is printed once over all
/// ranks, with its rank where there are several; then all ranks end, with status 1.
int run_in_world(const World::Options& options, const std::function<int(World&)>& body);

/// Prints an error that comes before there is a world, when no rank can end the others: what is wrong on all ranks rank
/// 0 tells first, and its leaving ends them. Returns the exit status.
int leave_alone(const std::exception& error, const LaunchEnvironment& environment);

}  // namespace plsc
