#include "head/graph_probe.h"

#include <algorithm>
#include <numeric>

#include "kernels/math/rng.h"

namespace plsc {
namespace {

/// One class's neighbours: those that were found, nearest first, against a list of the graph.
void count(std::span<const int32_t> found, std::span<const int32_t> list, GraphRecall& recall) {
  for (const int32_t id : found) {
    if (id < 0) break;
    ++recall.found;
    recall.known += std::ranges::find(list, id) != list.end();
  }
}

std::span<const int32_t> list_of(const Tensor& graph, int64_t row) {
  const int64_t k = graph.dim(1);
  return {graph.data<int32_t>() + row * k, static_cast<size_t>(k)};
}

GraphRecall over_ranks(Context& context, const GraphRecall& own) {
  Tensor sums = Tensor::from(std::vector<int64_t>{own.found, own.known}, {2});
  context.host.all_reduce(sums, ReduceOp::sum, "recall of the class graph");
  return {sums.data<int64_t>()[0], sums.data<int64_t>()[1]};
}

}  // namespace

std::vector<int64_t> probe_classes(uint64_t seed, int64_t step, int64_t classes) {
  std::vector<int64_t> drawn(static_cast<size_t>(std::min(classes, kProbeClasses)));
  std::iota(drawn.begin(), drawn.end(), int64_t{0});
  if (classes <= kProbeClasses) return drawn;
  for (int64_t& c : drawn) {
    c = static_cast<int64_t>(
        math::random64(seed, math::Draw::graph_probe, static_cast<uint64_t>(step), static_cast<uint64_t>(c)) %
        static_cast<uint64_t>(classes));
  }
  std::ranges::sort(drawn);
  drawn.erase(std::unique(drawn.begin(), drawn.end()), drawn.end());
  return drawn;
}

std::optional<GraphRecall> probe_graph(Context& context, const ProbeRows& rows, const GraphProbe& probe) {
  PLSC_CHECK(rows.queries.count() == static_cast<int64_t>(rows.classes.size()));
  NeighbourSearchSpec search;
  // A class finds itself as well, which is no neighbour: there are more candidates than K + 1.
  search.candidates = probe.spec.candidates();
  search.first_class = NeighbourSearchSpec::kNotInOrder;
  search.scores = probe.spec.scores;
  const auto found = find_neighbours(context, {rows.all, rows.queries, probe.shard, search, probe.spec.block_rows,
                                               probe.spec.piece_rows, "probe of the class graph", probe.interrupted});
  if (!found) return {};
  GraphRecall recall;
  std::vector<int32_t> nearest;
  read_lists(context, *found, [&](int64_t first, const Tensor& lists) {
    for (int64_t i = 0; i < lists.dim(0); ++i) {
      const int64_t c = rows.classes[static_cast<size_t>(first + i)];
      const int64_t* from = lists.data<int64_t>() + i * lists.dim(1);
      nearest.clear();
      for (int64_t n = 0; n < lists.dim(1) && std::ssize(nearest) < probe.spec.neighbours; ++n) {
        if (from[n] != c) nearest.push_back(static_cast<int32_t>(from[n]));
      }
      count(nearest, list_of(probe.graph, c - probe.shard.begin), recall);
    }
  });
  return over_ranks(context, recall);
}

GraphRecall recall_between(Context& context, const Tensor& before, const Tensor& now) {
  GraphRecall recall;
  for (int64_t row = 0; row < now.dim(0); ++row) count(list_of(now, row), list_of(before, row), recall);
  return over_ranks(context, recall);
}

}  // namespace plsc
