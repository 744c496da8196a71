// The work of building the class graph once. A dry run leaves the search off after its first block, so this is counted
// here and not there: who changes head/neighbour_rounds.cpp changes it, too.
#pragma once
#include "backend/dry/tally.h"
#include "head/shard.h"

namespace plsc::plan {

struct GraphRows {
  ClassShard shard;
  int64_t columns = 0;
  int ranks = 1;
  Dtype scores = Dtype::f32;  // the type of the products that find candidates
  double element = 0;         // bytes to read an element of a row: with its momentum, where rows lag
  bool far = false;           // over the link between a GPU and its host's memory
};

DryPhase graph_work(const GraphRows& rows);

}  // namespace plsc::plan
