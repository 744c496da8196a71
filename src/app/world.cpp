// The one place that catches errors of a run to print them.
#include "app/world.h"

#include <cstdio>
#include <string>
#include <thread>

#include "comm/errors.h"

namespace plsc {
namespace {

void print_error(const std::string& who, const std::exception& error) {
  // One write: the ranks share the console.
  const std::string text = fmt::format("plsc-train: {}error: {}\n", who, error.what());
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

/// Before there is a world nobody can end the others: each rank leaves by itself, and one of them speaks.
int leave_alone(const std::exception& error) {
  const auto* shared = dynamic_cast<const SharedError*>(&error);
  if (shared == nullptr || shared->voice() == Voice::speak) {
    print_error("", error);
  } else {
    std::this_thread::sleep_for(std::chrono::seconds(1));  // mpirun ends the speaker when another rank leaves first
  }
  return 1;
}

}  // namespace

int run_in_world(const World::Options& options, const std::function<int(World&)>& body) {
  std::unique_ptr<World> world;
  try {
    world = std::make_unique<World>(options);
  } catch (const std::exception& error) {
    return leave_alone(error);
  }
  try {
    const int status = body(*world);
    world->finish();
    return status;
  } catch (const std::exception& error) {
    if (world->speaks(error)) print_error(world->size() > 1 ? fmt::format("rank {}: ", world->rank()) : "", error);
    if (world->size() > 1) world->abort(1, error.what());
    world->finish();
    return 1;
  }
}

}  // namespace plsc
