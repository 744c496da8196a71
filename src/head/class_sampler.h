// Which classes take part in a step. A pure function of (seed, step, labels of the step): every rank finds its own
// part without asking the others.
#pragma once
#include <memory>
#include <vector>

#include "config/config.h"
#include "head/margin_head.h"

namespace plsc {

struct ActiveClasses {
  Tensor rows;        // (n) i64, device memory, ascending rows of the shard; undefined: all
  int64_t local = 0;  // how many
};

/// Classes that are being found, from start_sampling to active_classes.
struct Sampling {
  std::unique_ptr<SampledRows> rows;  // null: all take part
};
/// `labels`: of all ranks and micro-batches, -1 for none.
Sampling start_sampling(Context& context, const SamplingConfig& config, const ClassShard& shard, int64_t step,
                        const std::vector<int64_t>& labels);
ActiveClasses active_classes(const Sampling& sampling, const ClassShard& shard);

}  // namespace plsc
