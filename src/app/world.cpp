// The one place that catches errors of a run to print them.
#include "app/world.h"

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "comm/errors.h"

namespace plsc {
namespace {

/// `rank` below 0: the message is not one rank's, or names it itself.
void print_error(int rank, const std::exception& error) {
  // One write: the ranks share the console.
  const std::string who = rank < 0 ? "" : fmt::format("rank {}: ", rank);
  const std::string text = fmt::format("plsc-train: {}error: {}\n", who, error.what());
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

/// How long rank 0 lets the others leave before it, with a status that may make the starter end them.
constexpr std::chrono::milliseconds kLeaving{500};

int status_of_rank(int status, const World& world) {
  if (status == 0 || world.size() == 1) return status;
  if (world.rank() > 0) return 0;
  std::this_thread::sleep_for(kLeaving);
  return status;
}

}  // namespace

int leave_alone(const std::exception& error, const LaunchEnvironment& environment) {
  const auto* shared = dynamic_cast<const SharedError*>(&error);
  // Processes of one srun that do not find each other: all of them meet some error, and rank 0's is enough.
  const bool apart = !environment.under_mpi && environment.starter == "srun" && environment.rank > 0;
  const bool silent = apart || (shared != nullptr && shared->voice() != Voice::speak);
  // mpirun ends all ranks when the first leaves: rank 0 is given the time to be that one.
  if (silent || environment.rank > 0) std::this_thread::sleep_for(std::chrono::seconds(1));
  if (!silent) print_error(environment.rank > 0 ? environment.rank : -1, error);
  return 1;
}

int run_in_world(const World::Options& options, const std::function<int(World&)>& body) {
  std::unique_ptr<World> world;
  try {
    world = std::make_unique<World>(options);
  } catch (const std::exception& error) {
    return leave_alone(error, options.environment);
  }
  try {
    const int status = body(*world);
    world->finish();
    return status_of_rank(status, *world);
  } catch (const std::exception& error) {
    const bool anonymous = world->size() == 1 || dynamic_cast<const AgreedError*>(&error) != nullptr;
    if (world->speaks(error)) print_error(anonymous ? -1 : world->rank(), error);
    if (world->size() > 1) world->abort(1, error.what());
    world->finish();
    return 1;
  }
}

}  // namespace plsc
