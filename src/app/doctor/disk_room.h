// How much of a disk the checkpoints of a run will take: arithmetic on sizes. Who asks the disk is disk_probe.cpp.
#pragma once
#include <cstdint>
#include <vector>

namespace plsc::doctor {

struct CheckpointSpace {
  double one = 0;                  // bytes of a checkpoint that the run will write
  int64_t keep = 1;                // checkpoints: the newest so many stay
  std::vector<double> there = {};  // bytes of those that are there already, oldest first
};

/// The most bytes that the run will hold beyond what is there now. A checkpoint is written whole before the oldest one
/// goes, so that one more than `keep` are there for a moment; what an old one gives back is its own size.
double bytes_wanted(const CheckpointSpace& space);

}  // namespace plsc::doctor
