// Which classes take part in a step. A pure function of (seed, step, labels of the step): every rank finds its own
// part without asking the others.
#pragma once
#include <memory>
#include <vector>

#include "config/config.h"
#include "head/shard.h"
#include "runtime/context.h"

namespace plsc {

struct ActiveClasses {
  Tensor rows;        // (n) i64, device memory, ascending rows of the shard; undefined: all
  int64_t local = 0;  // how many
};

/// Classes that are being found, from start_sampling to active_classes.
struct Sampling {
  std::unique_ptr<SampledRows> rows;  // null: all take part
};
/// The part of all classes that takes part in a step, about: 1 where all do.
double active_part(const SamplingConfig& config, int64_t classes);
/// The labels that are there, ascending, each once; -1 stands for none.
std::vector<int64_t> distinct_labels(const std::vector<int64_t>& labels);
/// Those of `classes` that this rank has, behind `rows`, as rows of the shard.
void add_own_rows(const ClassShard& shard, const std::vector<int64_t>& classes, std::vector<int64_t>& rows);

/// What takes part in a step in any case, and how many classes are wanted.
struct UniformRest {
  int64_t step = 0;
  double wanted = 0, taken = 0;  // classes of all ranks, as expected; taken: with `rows`
  std::vector<int64_t> rows;     // of the shard, in any order, none twice
};
/// Starts to find the classes of a step: `rows`, and of the others as many as are still wanted, by their keys.
Sampling start_rest(Context& context, const ClassShard& shard, UniformRest rest);
/// All, or a uniform part, which is also what method knn begins with. `labels`: of all ranks and micro-batches, -1 for
/// none.
Sampling start_sampling(Context& context, const SamplingConfig& config, const ClassShard& shard, int64_t step,
                        const std::vector<int64_t>& labels);
/// `rows`: of the shard.
ActiveClasses active_classes(const Sampling& sampling, int64_t rows);

}  // namespace plsc
