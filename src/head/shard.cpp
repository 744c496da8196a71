#include "head/shard.h"

#include "base/error.h"
#include "base/threads.h"

namespace plsc {

ClassShard class_shard(int64_t total, int ranks, int rank) {
  PLSC_CHECK(total >= 0 && ranks >= 1 && rank >= 0 && rank < ranks, "rank {} of {}, {} classes", rank, ranks, total);
  return {range_begin(total, ranks, rank), range_begin(total, ranks, rank + 1), total};
}

}  // namespace plsc
