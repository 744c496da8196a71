// The class graph: equal to a search by brute force in double, the same on any number of ranks and for any way to cut
// rows, within the memory that its header states; and what each rank keeps of it.
#include "head/neighbour_graph.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "backend/row_source.h"
#include "support/catch.h"
#include "support/error_text.h"
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
    for (const Dtype scores : score_types()) {
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
  for (const Dtype scores : score_types()) {
    const auto one = whole_graph(1, c, {12, scores});
    CHECK(whole_graph(1, c, {12, scores}, 3) == one);
    for (const int ranks : {2, 3, 4}) CHECK(whole_graph(ranks, c, {12, scores}) == one);
  }
}

TEST_CASE("the graph does not depend on how rows are cut into blocks") {
  struct Case {
    int64_t classes, rows;
  };
  // Ends of shards and of blocks fall together, or not: 2500 is 25 hundreds, of which three ranks have parts.
  for (const auto& [classes, rows] : {Case{70, 1}, Case{2500, 100}, Case{2500, 1024}}) {
    const GraphCase c = clustered_rows(classes, 33, 4);
    for (const Dtype scores : score_types()) {
      const auto expected = whole_graph(1, c, {12, scores});
      CHECK(differences(c, expected, brute_force(c, 12), 12) == 0);
      for (const int ranks : {1, 2, 3}) {
        INFO(rows << " rows of " << classes << ", " << ranks << " ranks, " << dtype_name(scores));
        CHECK(whole_graph(ranks, c, {12, scores, rows}) == expected);
      }
    }
  }
}

TEST_CASE("a search of many pieces can be left between them, by all ranks together") {
  constexpr int64_t kRows = 20, kBlocks = 8, kPieces = 3 * kBlocks;  // of a rank's queries: asked behind each
  for (const int ranks : {1, 2, 3}) {
    const GraphCase c = clustered_rows(ranks * kRows * kBlocks - 5, 16, 4);  // the last rank's last piece is short
    const GraphSpec spec{9, Dtype::f32, kRows, 7};                           // a block is two pieces of 7 and one of 6
    const auto expected = whole_graph(1, c, {9});
    const int64_t questions = 2 * ranks * kBlocks * kPieces;  // of two rounds
    run_ranks(ranks, [&](ThreadRank& rank) {
      CpuContext cpu(rank);
      const ClassShard shard = class_shard(c.classes, ranks, rank.rank);
      TensorRows rows = rows_of(cpu.context.device(), c, shard);
      const auto before = cpu.context.device().memory().in_use;
      // Within a block, behind one, where the owner changes, in the second round, at the very end.
      for (const int64_t stop : {int64_t{1}, int64_t{2}, int64_t{3}, 2 * kPieces, questions / 2 + 1, questions}) {
        int64_t asked = 0;
        PLSC_CHECK(!build_graph(cpu.context, rows, shard, spec, [&] { return ++asked == stop; }).defined());
        PLSC_CHECK(asked == stop && cpu.context.device().memory().in_use == before);
      }
      int64_t asked = 0;
      const Tensor graph = build_graph(cpu.context, rows, shard, spec, [&] { return ++asked < 0; });
      PLSC_CHECK(asked == questions);
      const auto begin = expected.begin() + shard.begin * spec.neighbours;
      PLSC_CHECK(std::ranges::equal(graph.span<int32_t>(), std::span(begin, static_cast<size_t>(graph.elements()))));
    });
  }
}

TEST_CASE("a search that takes long shows how far it is, piece by piece") {
  const GraphCase c = clustered_rows(60, 16, 4);
  std::FILE* const shown = std::tmpfile();
  REQUIRE(shown != nullptr);
  CpuContext cpu;
  cpu.log = Log(0, LogLevel::error, Console{fileno(shown), 0});
  const ClassShard shard = class_shard(c.classes, 1, 0);
  TensorRows rows = rows_of(cpu.context.device(), c, shard);
  bool first = true;
  build_graph(cpu.context, rows, shard, {9, Dtype::f32, 20, 7}, [&] {
    if (std::exchange(first, false)) std::this_thread::sleep_for(std::chrono::milliseconds(2200));
    return false;
  });
  std::rewind(shown);
  char text[4096] = {};
  static_cast<void>(std::fread(text, 1, sizeof text - 1, shown));
  std::fclose(shown);
  // The first piece is 7 of 60 queries that have met 20 of 60 classes; off a terminal the next line is the last one.
  CHECK(contains(text, "class graph, candidates  4 %  ETA "));
  CHECK(contains(text, "class graph, candidates  100 %  ETA 0 s\n"));
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
  for (const Dtype scores : score_types()) {
    CHECK(recall(whole_graph(1, c, {kNeighbours, scores}, 2), expected, kNeighbours) >= 0.999);
  }
}

}  // namespace
}  // namespace plsc::test
