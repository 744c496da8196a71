// A world of ranks that are threads of one process, so that unit tests run the same collectives as a real run does.
// Sums are taken in rank order: the result does not depend on which thread comes first.
#pragma once
#include <functional>
#include <memory>

#include "comm/collective.h"

namespace plsc::test {

/// What one thread is given: two communicators, as a run has (tensors, and host values for control flow).
struct ThreadRank {
  int rank = 0, ranks = 1;
  Collective& comm;
  Collective& host;
};

/// Runs `body` on `ranks` threads and waits for all. The first exception of a rank (not one that merely reports that
/// another rank died) is thrown again here. A collective that some rank never joins ends after `timeout` seconds.
void run_ranks(int ranks, const std::function<void(ThreadRank&)>& body, double timeout = 60);

}  // namespace plsc::test
