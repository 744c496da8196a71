// Ranks as processes, for tests of the stand-in's NCCL.
#pragma once
#include <nccl.h>

#include <functional>
#include <string>

#include "standin.h"

namespace plsc::standin {

struct Rank {
  int rank = 0, ranks = 0;
  ncclUniqueId id = {};  // of one communicator
};

/// How a rank ended.
struct Ending {
  bool good = false;    // its body returned
  std::string message;  // what the body threw
};

/// Runs `body` in `ranks` processes, each with a device of its own, and waits for them. The caller must not have used
/// CUDA. Misuse throws. A process that does not end within a minute is killed.
std::vector<Ending> run_ranks(int ranks, const std::function<void(const Rank&)>& body);

/// Throws where `holds` is false.
void expect(bool holds, const std::string& what);

}  // namespace plsc::standin
