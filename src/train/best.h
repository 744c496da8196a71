// The best evaluation of a run so far (checkpoint.best), remembered in output/checkpoints/best.json. Not in a
// checkpoint: a checkpoint is written before the network is evaluated, so that no evaluation can cost it.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace plsc {

struct Best {
  std::string metric;  // "lfw accuracy"
  double value = 0;
  int64_t step = 0;  // steps done; its checkpoint is kept
};

/// What `checkpoints` (the folder of all of a run's checkpoints) remembers; nothing where there is no such file, it
/// cannot be read, or the checkpoint of its step is gone.
std::optional<Best> read_best(const std::string& checkpoints);

/// Replaces best.json atomically. Error when it cannot be written.
void write_best(const std::string& checkpoints, const Best& best);

}  // namespace plsc
