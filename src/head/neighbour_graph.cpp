// See neighbour_graph.h.
#include "head/neighbour_graph.h"

#include <algorithm>
#include <vector>

namespace plsc {
namespace {

/// How many of the entries of `graph` (n, K) each rank owns.
std::vector<int64_t> entries_by_owner(const Tensor& graph, int64_t classes, int ranks) {
  std::vector<int64_t> ends, counts(static_cast<size_t>(ranks));
  for (int r = 0; r < ranks; ++r) ends.push_back(class_shard(classes, ranks, r).end);
  for (const int32_t id : graph.span<int32_t>()) {
    if (id < 0) continue;
    ++counts[static_cast<size_t>(std::ranges::upper_bound(ends, int64_t{id}) - ends.begin())];
  }
  return counts;
}

/// Entries of this rank in the graphs of all ranks.
int64_t own_entries(Context& context, const ClassShard& shard, const Tensor& graph) {
  const int ranks = context.ranks();
  Tensor all(host_allocator(), {ranks, ranks}, Dtype::i64);
  context.host.all_gather(Tensor::from(entries_by_owner(graph, shard.total, ranks), {ranks}), all,
                          "sizes of the class graph");
  int64_t sum = 0;
  for (int r = 0; r < ranks; ++r) sum += all.data<int64_t>()[r * ranks + context.rank()];
  return sum;
}

}  // namespace

GraphMemory graph_memory(Context& context, const ClassShard& shard, int64_t columns, const GraphSpec& spec) {
  // A thread's tile of scores and the products' scratch memory; the tiles of a GPU fit its second-level cache.
  constexpr int64_t kThreadBytes = 16 << 20, kGpuBytes = 320 << 20;
  const int64_t most = spec.block_rows > 0 ? spec.block_rows : NeighbourRounds::block_rows(columns);
  const int64_t rows = std::min(most, class_shard(shard.total, context.ranks(), 0).size());
  const int64_t block = (rows + NeighbourOps::kKeyRows) * columns * int64_t{sizeof(float)};  // filled up
  const bool gpu = context.device().kind() == DeviceKind::cuda;
  GraphMemory bytes;
  bytes.device = shard.size() * spec.candidates() * int64_t{sizeof(float) + sizeof(int64_t)} + 4 * block +
                 (gpu ? kGpuBytes : context.device().threads() * kThreadBytes);
  const int64_t entries = shard.size() * spec.neighbours;
  bytes.host = entries * int64_t{sizeof(int32_t)} + kListBytes;
  // Lists; row and place of an entry; where a class's entries begin; the sampler's place of each row.
  bytes.kept = entries * int64_t{3 * sizeof(int32_t)} + (shard.total + 1) * int64_t{sizeof(int64_t)} +
               shard.size() * int64_t{sizeof(int32_t)};
  return bytes;
}

Tensor build_graph(Context& context, RowSource& rows, const ClassShard& shard, const GraphSpec& spec,
                   const Interrupted& interrupted) {
  const int64_t k = spec.neighbours;
  PLSC_CHECK(k >= 1 && k <= SamplingConfig::kMostNeighbours, "{} neighbours, at most {}", k,
             SamplingConfig::kMostNeighbours);
  PLSC_CHECK(rows.count() == shard.size() && shard.total <= GraphSpec::kMostClasses, "{} of {} rows of {} classes",
             rows.count(), shard.size(), shard.total);
  NeighbourSearchSpec search;
  search.candidates = spec.candidates();
  search.first_class = shard.begin;
  search.scores = spec.scores;
  const auto found = find_neighbours(
      context, {rows, rows, shard, search, spec.block_rows, spec.piece_rows, "class graph", interrupted});
  if (!found) return {};
  Tensor graph(host_allocator(), {shard.size(), k}, Dtype::i32);
  read_lists(context, *found, [&](int64_t first, const Tensor& lists) {
    const int64_t candidates = lists.dim(1);
    for (int64_t i = 0; i < lists.dim(0); ++i) {
      const int64_t* from = lists.data<int64_t>() + i * candidates;
      std::transform(from, from + k, graph.data<int32_t>() + (first + i) * k,
                     [](int64_t id) { return static_cast<int32_t>(id); });
    }
  });
  return graph;
}

OwnedNeighbours share_graph(Context& context, const ClassShard& shard, const Tensor& graph) {
  const int64_t k = graph.dim(1), entries = own_entries(context, shard, graph);
  OwnedNeighbours out{Tensor(host_allocator(), {shard.total + 1}, Dtype::i64),
                      Tensor(host_allocator(), {entries}, Dtype::i32), Tensor(host_allocator(), {entries}, Dtype::i32)};
  const int64_t piece = std::max<int64_t>(kListBytes / (k * int64_t{sizeof(int32_t)}), 1);
  int64_t* offset = out.offsets.data<int64_t>();
  int64_t at = 0;
  for (const ClassBlock& block : class_blocks(shard.total, context.ranks(), piece)) {
    Tensor lists(host_allocator(), {block.count, k}, Dtype::i32);
    if (block.owner == context.rank()) {
      lists = graph.rows(block.first_class - shard.begin, block.count);
    }
    context.host.broadcast(lists, block.owner, "the class graph");
    for (int64_t c = 0; c < block.count; ++c) {
      *offset++ = at;
      for (int64_t n = 0; n < k; ++n) {
        const int64_t id = lists.data<int32_t>()[c * k + n];
        if (id < shard.begin || id >= shard.end) continue;
        out.rows.data<int32_t>()[at] = static_cast<int32_t>(id - shard.begin);
        out.ranks.data<int32_t>()[at++] = static_cast<int32_t>(n);
      }
    }
  }
  *offset = at;
  return out;
}

}  // namespace plsc
