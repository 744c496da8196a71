// How fast two ranks talk with each other alone, by MPI: for the doctor, which looks for the slow link between hosts.
#pragma once
#include <memory>

#include "comm/wait.h"

namespace plsc {

struct PairRate {
  double seconds = 0;           // from one rank to the other, of a message of 8 bytes
  double bytes_per_second = 0;  // one way at a time
};

/// On a communicator of its own. Made by all ranks together, where there are several.
class PairProbe {
 public:
  virtual ~PairProbe() = default;
  /// Both ranks of a pair call it with each other's number, one of them as the leader, which measures for about
  /// `seconds`, or as long as two messages of 4 MiB take. The other rank's result is empty.
  /// Throws what waits throw: TimeoutError, PeerLost.
  virtual PairRate measure(int peer, bool leads, double seconds) = 0;
};

/// `policy`: how waits for the peer are done.
std::unique_ptr<PairProbe> make_pair_probe(const WaitPolicy& policy);

}  // namespace plsc
