// Which classes take part in a step. A pure function of (seed, step, labels of the step): every rank finds its own
// part without asking the others.
#pragma once
#include <vector>

#include "config/config.h"
#include "head/margin_head.h"

namespace plsc {

struct ActiveClasses {
  Tensor rows;                     // (n) i64, device memory, ascending rows of the shard; undefined: all
  std::vector<int64_t> host_rows;  // the same for look-ups
  int64_t local = 0;               // how many

  /// The place of a class's row among the active ones.
  int64_t place(int64_t row) const;
};

/// `labels`: of all ranks, -1 for none.
ActiveClasses sample_classes(Context& context, const SamplingConfig& config, const ClassShard& shard, int64_t step,
                             const std::vector<int64_t>& labels);

}  // namespace plsc
