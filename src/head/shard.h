// How classes are split over ranks.
#pragma once
#include <cstdint>

namespace plsc {

/// The classes [begin, end) of `total` that one rank owns: the first total mod ranks ranks own one more.
struct ClassShard {
  int64_t begin = 0, end = 0, total = 0;
  int64_t size() const { return end - begin; }
};
ClassShard class_shard(int64_t total, int ranks, int rank);

}  // namespace plsc
