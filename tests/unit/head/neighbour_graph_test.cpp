// The class graph: equal to a search by brute force in double, the same on any number of ranks and for any way to cut
// rows, within the memory that its header states; and what each rank keeps of it.
#include "head/neighbour_graph.h"

#include <algorithm>
#include <mutex>
#include <set>

#include "backend/row_source.h"
#include "support/catch.h"
#include "support/graph_cases.h"
#include "support/thread_world.h"

namespace plsc::test {
namespace {

std::vector<int32_t> whole_graph(int ranks, const GraphCase& c, const GraphSpec& spec, int threads = 1) {
  std::vector<int32_t> out(static_cast<size_t>(c.classes * spec.neighbours));
  run_ranks(ranks, [&](ThreadRank& rank) {
    CpuContext cpu(rank, threads);
    const ClassShard shard = class_shard(c.classes, ranks, rank.rank);
    TensorRows rows = rows_of(cpu.context.device(), c, shard);
    const auto part = build_graph(cpu.context, rows, shard, spec).values<int32_t>();
    std::ranges::copy(part, out.begin() + shard.begin * spec.neighbours);
  });
  return out;
}

TEST_CASE("the graph is that of brute force in double, in fp32 and in bf16") {
  const GraphCase c = clustered_rows(3001, 40, 5);
  for (const int64_t k : {1, 10, 50}) {
    const std::vector<int32_t> expected = brute_force(c, k);
    for (const Dtype scores : {Dtype::f32, Dtype::bf16}) {
      INFO(k << " neighbours, " << dtype_name(scores));
      CHECK(differences(c, whole_graph(1, c, {k, scores}, 2), expected, k) == 0);
    }
  }
}

TEST_CASE("fewer classes than neighbours, one class, none on a rank") {
  for (const int64_t classes : {1, 2, 5}) {
    const GraphCase c = clustered_rows(classes, 8, 2);
    const auto expected = brute_force(c, 7);
    for (const int ranks : {1, 3}) CHECK(whole_graph(ranks, c, {7}) == expected);
  }
}

TEST_CASE("equal centres are neighbours by class id, and a centre of zeros has no nearer one") {
  GraphCase c = clustered_rows(300, 16, 3);
  // 200 times the same row: more ties than there are candidates.
  for (int64_t j = 1; j < 200; ++j) std::copy_n(c.rows.begin(), 16, c.rows.begin() + j * 16);
  std::fill_n(c.rows.begin() + 250 * 16, 16, 0.0F);
  const auto expected = brute_force(c, 20);
  for (const int ranks : {1, 2}) {
    const auto graph = whole_graph(ranks, c, {20});
    for (int32_t j = 0; j < 200; ++j) {
      for (int32_t n = 0; n < 20; ++n) CHECK(graph[static_cast<size_t>(j * 20 + n)] == (n < j ? n : n + 1));
    }
    // All cosines are 0 there: the lowest ids.
    for (int32_t n = 0; n < 20; ++n) CHECK(graph[static_cast<size_t>(250 * 20 + n)] == n);
    CHECK(differences(c, graph, expected, 20) == 0);
  }
}

TEST_CASE("the graph does not depend on the ranks or the threads") {
  const GraphCase c = clustered_rows(2500, 33, 4);
  for (const Dtype scores : {Dtype::f32, Dtype::bf16}) {
    const auto one = whole_graph(1, c, {12, scores});
    CHECK(whole_graph(1, c, {12, scores}, 3) == one);
    for (const int ranks : {2, 3, 4}) CHECK(whole_graph(ranks, c, {12, scores}) == one);
  }
}

TEST_CASE("building takes the memory that the header states") {
  const GraphCase c = clustered_rows(20000, 64, 6);
  const GraphSpec spec{100};
  CpuContext cpu(2);
  Device& device = cpu.context.device();
  const ClassShard shard = class_shard(c.classes, 1, 0);
  TensorRows rows = rows_of(device, c, shard);
  const auto before = static_cast<int64_t>(device.memory().in_use);
  build_graph(cpu.context, rows, shard, spec);
  const auto taken = static_cast<int64_t>(device.memory().peak) - before;
  const GraphMemory bound = graph_memory(cpu.context, shard, c.columns, spec);
  CHECK(taken <= bound.device);
  CHECK(2 * taken >= bound.device);  // or it would say nothing
  CHECK(static_cast<int64_t>(device.memory().in_use) == before);
}

TEST_CASE("every rank keeps, for every class, the neighbours that it owns") {
  const GraphCase c = clustered_rows(500, 20, 7);
  constexpr int64_t kNeighbours = 9;
  const auto whole = whole_graph(1, c, {kNeighbours});
  for (const int ranks : {1, 2, 3}) {
    std::mutex mutex;
    std::set<std::tuple<int64_t, int64_t, int64_t>> entries;  // class, neighbour, how near
    run_ranks(ranks, [&](ThreadRank& rank) {
      CpuContext cpu(rank);
      const ClassShard shard = class_shard(c.classes, ranks, rank.rank);
      TensorRows rows = rows_of(cpu.context.device(), c, shard);
      const auto kept = share_graph(cpu.context, shard, build_graph(cpu.context, rows, shard, {kNeighbours}));
      const auto offsets = kept.offsets.values<int64_t>();
      const auto own = kept.rows.values<int32_t>(), near = kept.ranks.values<int32_t>();
      const std::lock_guard lock(mutex);
      for (int64_t j = 0; j < c.classes; ++j) {
        for (int64_t e = offsets[static_cast<size_t>(j)]; e < offsets[static_cast<size_t>(j + 1)]; ++e) {
          entries.emplace(j, own[static_cast<size_t>(e)] + shard.begin, near[static_cast<size_t>(e)]);
        }
      }
      PLSC_CHECK(offsets.back() == kept.rows.elements());
    });
    REQUIRE(entries.size() == whole.size());
    for (int64_t i = 0; i < static_cast<int64_t>(whole.size()); ++i) {
      CHECK(entries.contains({i / kNeighbours, whole[static_cast<size_t>(i)], i % kNeighbours}));
    }
  }
}

TEST_CASE("the graph of 50000 classes is that of brute force in double", "[.full]") {
  const GraphCase c = clustered_rows(50000, 64, 8);
  constexpr int64_t kNeighbours = 50;
  const auto expected = brute_force(c, kNeighbours);
  CHECK(differences(c, whole_graph(1, c, {kNeighbours}, 2), expected, kNeighbours) == 0);
  CHECK(recall(whole_graph(1, c, {kNeighbours, Dtype::bf16}, 2), expected, kNeighbours) >= 0.999);
}

}  // namespace
}  // namespace plsc::test
