// The world of a test that runs on MPI ranks.
#pragma once
#include "comm/world.h"

namespace plsc::test {

/// Opened by main before the first test, the same for all of them.
World& world();

}  // namespace plsc::test
