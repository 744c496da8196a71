// Rates between two ranks, while the others wait or talk as well.
#include "comm/pair_probe.h"

#include "dist/mpi_main.h"
#include "support/catch.h"

using namespace plsc;

TEST_CASE("two ranks measure their link, and only the leader has a result") {
  World& world = test::world();
  if (world.size() == 1) return;  // nobody to talk with
  const auto probe = make_pair_probe(world.wait_policy());
  // Pairs beside each other: 0 and 1, 2 and 3; then the other way round, over the same communicator.
  for (int turn = 0; turn < 2; ++turn) {
    const int rank = world.rank(), peer = rank ^ 1;
    if (peer < world.size()) {
      const bool leads = rank % 2 == turn;
      const PairRate rate = probe->measure(peer, leads, 0.05);
      CHECK((rate.bytes_per_second > 0) == leads);
      CHECK((rate.seconds > 0) == leads);
    }
    world.host_collective().barrier("a turn");
  }
}
