// How much of the class graph still holds: centres move on after it was built. For some classes, drawn anew for each
// probe, the nearest others are searched for among the centres as they are now, and counted in the graph's lists.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "head/neighbour_graph.h"

namespace plsc {

/// The classes of the probe at `step`, ascending: all of them, or kProbeClasses draws, of which some may be the same. A
/// function of (seed, step, number of classes).
constexpr int64_t kProbeClasses = 10000;
std::vector<int64_t> probe_classes(uint64_t seed, int64_t step, int64_t classes);

/// Neighbours that were found, over all ranks, and how many of them the graph has.
struct GraphRecall {
  int64_t found = 0, known = 0;
  /// 1 where there is nothing to find.
  double part() const { return found > 0 ? static_cast<double>(known) / static_cast<double>(found) : 1; }
};

struct ProbeRows {
  RowSource& all;                // of the shard
  RowSource& queries;            // those of this rank's classes among the probe's
  std::vector<int64_t> classes;  // that `queries` are, ascending
};
/// `graph`, of `spec`, against the neighbours of the probe's classes. Nothing where it was interrupted. All ranks call
/// it. Costs 2 C D FLOP for each class of the probe.
struct GraphProbe {
  ClassShard shard;
  Tensor graph;
  GraphSpec spec;
  Interrupted interrupted;
};
std::optional<GraphRecall> probe_graph(Context& context, const ProbeRows& rows, const GraphProbe& probe);

/// How much of `now`, a new graph, is in `before`; rows of the two are the same classes.
GraphRecall recall_between(Context& context, const Tensor& before, const Tensor& now);

}  // namespace plsc
