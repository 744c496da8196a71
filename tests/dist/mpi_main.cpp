// main of the tests that run on MPI ranks: opens the world, runs the tests, and fails on every rank when they fail on
// one. A watchdog ends a rank that hangs, whatever it hangs in.
#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif
#include <unistd.h>

#include <cstdio>
#include <memory>

#include "dist/mpi_main.h"

namespace {
std::unique_ptr<plsc::World> the_world;  // of a test program: Catch's test cases take no argument
}

plsc::World& plsc::test::world() { return *the_world; }

int main(int argc, char** argv) {
  ::alarm(280);  // its default action ends the process, and then mpirun ends the others
  try {
    plsc::World::Options options;
    options.timeout = 60;
    the_world = std::make_unique<plsc::World>(options);
    const int failed = Catch::Session().run(argc, argv);
    // A rank whose test failed may have left the others' sequence of collectives, so it does not wait for them.
    if (failed != 0) the_world->abort(1, "its tests failed");
    the_world->finish();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    if (the_world) the_world->abort(1, error.what());
    return 1;
  }
}
