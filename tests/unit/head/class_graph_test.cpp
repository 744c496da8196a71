// A head that samples by a class graph: uniform until one is built, the same on any number of ranks; probes tell how
// much of the graph holds; what a checkpoint stores of it is taken up by any number of ranks, and not on trust.
#include "head/class_graph.h"

#include <algorithm>
#include <mutex>
#include <numeric>
#include <set>

#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/error_text.h"
#include "support/graph_cases.h"
#include "support/head_cases.h"
#include "support/head_step.h"

namespace plsc::test {
namespace {

constexpr int64_t kClasses = 211, kColumns = 12, kBatch = 6, kNeighbours = 7;

HeadConfig knn_head(double ratio = 0.2) {
  HeadConfig config;
  config.scale = 16;
  config.sampling = {.method = "knn", .ratio = ratio, .neighbours = kNeighbours, .uniform_share = 0.25};
  return config;
}

/// Fills this rank's centres.
void set_centers(Context& context, MarginHead& head, const GraphCase& c) {
  const auto begin = c.rows.begin() + head.shard().begin * c.columns;
  set_values(context, head_rows(head, "centers"), std::vector<double>(begin, begin + head.shard().size() * c.columns));
}

std::unique_ptr<MarginHead> head_of(Context& context, const HeadConfig& config, const GraphCase& c) {
  auto head = drawn_head(context, config, c.classes, c.columns);
  set_centers(context, *head, c);
  return head;
}

/// Steps [first, first + steps) with gradients; the active classes of this rank in each.
std::vector<int64_t> train(Context& context, MarginHead& head, int64_t first, int64_t steps) {
  const int64_t ranks = context.ranks(), each = kBatch / ranks, begin = each * context.rank();
  std::vector<int64_t> active;
  for (int64_t t = first; t < first + steps; ++t) {
    const auto e = random_values(kBatch * kColumns, static_cast<uint64_t>(t));
    const auto labels = random_labels(kBatch, kClasses, static_cast<uint64_t>(t));
    begin_head(context, head, {{labels.begin() + begin, labels.begin() + begin + each}},
               {.step = t, .global_batch = kBatch}, {.lr = 0.05F, .momentum = 0.9F, .weight_decay = 0.01F});
    active.push_back(head.run(context, to_tensor({e.begin() + begin * kColumns, e.begin() + (begin + each) * kColumns},
                                                 {each, kColumns}))
                         .active);
    head.end_step(context);
  }
  return active;
}

std::vector<int64_t> sum_over_ranks(Context& context, std::vector<int64_t> values) {
  for (int64_t& v : values) {
    const auto all = gather_values(context.host, v);
    v = std::accumulate(all.begin(), all.end(), int64_t{0});
  }
  return values;
}

TEST_CASE("sampling is uniform until the graph is built, and by the graph from then on, on any number of ranks") {
  const GraphCase c = clustered_rows(kClasses, kColumns, 3);
  std::vector<int64_t> before, after;
  for (const int ranks : {1, 2, 3}) {
    run_ranks(ranks, [&](ThreadRank& rank) {
      CpuContext cpu(rank);
      HeadConfig uniform = knn_head();
      uniform.sampling.method = "uniform";
      auto head = head_of(cpu.context, knn_head(), c), other = head_of(cpu.context, uniform, c);
      PLSC_CHECK(other->graph() == nullptr && !head->graph()->built());
      const auto first = sum_over_ranks(cpu.context, train(cpu.context, *head, 0, 5));
      PLSC_CHECK(first == sum_over_ranks(cpu.context, train(cpu.context, *other, 0, 5)));

      // Of the same centres, whatever rounding has made of the steps so far.
      set_centers(cpu.context, *head, c);
      PLSC_CHECK(head->build_graph(cpu.context, 5, {}).done && head->graph()->built());
      PLSC_CHECK((head->graph()->age() == GraphAge{5, 5}));
      const auto second = sum_over_ranks(cpu.context, train(cpu.context, *head, 5, 5));
      if (rank.rank == 0 && ranks == 1) {
        before = first;
        after = second;
        // 42 +- 6 either way, other classes.
        PLSC_CHECK(second != sum_over_ranks(cpu.context, train(cpu.context, *other, 5, 5)));
      }
      PLSC_CHECK(first == before && second == after, "{} ranks", ranks);
    });
  }
  CHECK(std::accumulate(after.begin(), after.end(), int64_t{0}) / 5 > 25);
  CHECK(std::accumulate(after.begin(), after.end(), int64_t{0}) / 5 < 60);
}

TEST_CASE("a number of active classes is a part of all") {
  SamplingConfig sampling = knn_head().sampling;
  CHECK(active_part(sampling, 1000) == 0.2);
  sampling.active = 50;
  CHECK(active_part(sampling, 1000) == 0.05);
  CHECK(active_part(sampling, 20) == 1);
  sampling.method = "full";
  CHECK(active_part(sampling, 1000) == 1);

  // The same classes either way, before and with a graph.
  const GraphCase c = clustered_rows(kClasses, kColumns, 3);
  CpuContext cpu;
  HeadConfig counted = knn_head(0.9);
  counted.sampling.active = 40;
  auto one = head_of(cpu.context, counted, c), other = head_of(cpu.context, knn_head(40.0 / kClasses), c);
  for (const int64_t step : {0, 4}) {
    CHECK(train(cpu.context, *one, step, 4) == train(cpu.context, *other, step, 4));
    one->build_graph(cpu.context, step + 4, {});
    other->build_graph(cpu.context, step + 4, {});
  }
}

/// By the definition: the nearest of all centres as they are now against the graph of those before.
double recall_by_hand(const GraphCase& before, const GraphCase& now, const std::vector<int64_t>& classes) {
  const auto graph = brute_force(before, kNeighbours), nearest = brute_force(now, kNeighbours);
  int64_t known = 0;
  for (const int64_t c : classes) {
    const auto list = graph.begin() + c * kNeighbours;
    for (int64_t n = 0; n < kNeighbours; ++n) {
      known += std::count(list, list + kNeighbours, nearest[static_cast<size_t>(c * kNeighbours + n)]);
    }
  }
  return static_cast<double>(known) / static_cast<double>(std::ssize(classes) * kNeighbours);
}

TEST_CASE("a probe finds the part of the nearest classes that the graph has, on any number of ranks") {
  const GraphCase before = clustered_rows(kClasses, kColumns, 3);
  GraphCase now = before;
  const GraphCase moves = clustered_rows(kClasses, kColumns, 4);
  for (size_t i = 0; i < now.rows.size(); ++i) now.rows[i] += 0.5F * moves.rows[i];
  // Equal centres, of which each finds itself somewhere among the others.
  for (int64_t j = 100; j < 140; ++j) std::copy_n(now.rows.begin(), kColumns, now.rows.begin() + j * kColumns);
  std::vector<int64_t> all(kClasses);
  std::iota(all.begin(), all.end(), 0);
  const double expected = recall_by_hand(before, now, all);
  CHECK(expected > 0.2);
  CHECK(expected < 0.9);
  for (const int ranks : {1, 2, 3}) {
    run_ranks(ranks, [&](ThreadRank& rank) {
      CpuContext cpu(rank);
      auto head = head_of(cpu.context, knn_head(), before);
      head->build_graph(cpu.context, 10, {});
      PLSC_CHECK(head->probe_graph(cpu.context, 11, {}) == 1.0);
      set_centers(cpu.context, *head, now);
      const double recall = head->probe_graph(cpu.context, 12, {}).value();
      PLSC_CHECK(std::abs(recall - expected) < 1e-12, "{} and {}", recall, expected);
      PLSC_CHECK((head->graph()->age() == GraphAge{10, 10}));
      // A build tells the same of the graph that it replaces.
      PLSC_CHECK(std::abs(head->build_graph(cpu.context, 13, {}).kept.value() - expected) < 1e-12);
      PLSC_CHECK(head->probe_graph(cpu.context, 14, {}) == 1.0);
    });
  }
}

TEST_CASE("of many classes a probe draws some, others at each step") {
  constexpr int64_t kMany = 4 * kProbeClasses;
  const auto one = probe_classes(1, 5, kMany), other = probe_classes(1, 6, kMany);
  CHECK(one == probe_classes(1, 5, kMany));
  CHECK(one != other);
  CHECK(one != probe_classes(2, 5, kMany));
  CHECK(std::ranges::is_sorted(one));
  CHECK(std::set<int64_t>(one.begin(), one.end()).size() == one.size());
  CHECK(one.front() >= 0);
  CHECK(one.back() < kMany);
  // (1 - e^-1/4) 40,000 = 8,848 different ones are expected, with a deviation below sqrt(8848).
  CHECK(std::ssize(one) > 8848 - 400);
  CHECK(std::ssize(one) < 8848 + 400);
  std::vector<int64_t> few(20);
  std::iota(few.begin(), few.end(), 0);
  CHECK(probe_classes(1, 5, 20) == few);

  // Against the same search by a whole graph.
  const GraphCase c = clustered_rows(kProbeClasses + 3000, 4, 9);
  GraphCase now = c;
  for (size_t i = 0; i < now.rows.size(); i += 3) now.rows[i] += 0.1F;
  CpuContext cpu(2);
  HeadConfig config = knn_head();
  auto head = head_of(cpu.context, config, c);
  head->build_graph(cpu.context, 0, {});
  const Tensor before = head->graph()->lists();
  set_centers(cpu.context, *head, now);
  const double probed = head->probe_graph(cpu.context, 7, {}).value();
  const ClassShard shard = class_shard(c.classes, 1, 0);
  TensorRows rows = rows_of(cpu.context.device(), now, shard);
  const Tensor after = build_graph(cpu.context, rows, shard, {kNeighbours});
  int64_t known = 0, found = 0;
  for (const int64_t id : probe_classes(cpu.context.seed, 7, c.classes)) {
    const int32_t *list = before.data<int32_t>() + id * kNeighbours,
                  *nearest = after.data<int32_t>() + id * kNeighbours;
    for (int64_t n = 0; n < kNeighbours; ++n) known += std::count(list, list + kNeighbours, nearest[n]);
    found += kNeighbours;
  }
  CHECK(probed == static_cast<double>(known) / static_cast<double>(found));
  CHECK(probed < 0.95);
}

TEST_CASE("an interruption leaves the graph as it was, and all ranks leave off together") {
  const GraphCase before = clustered_rows(kClasses, kColumns, 3), now = clustered_rows(kClasses, kColumns, 4);
  run_ranks(3, [&](ThreadRank& rank) {
    CpuContext cpu(rank);
    auto head = head_of(cpu.context, knn_head(), before);
    int asked = 0;
    const auto at_once = [&] { return ++asked > 0; };
    PLSC_CHECK(!head->build_graph(cpu.context, 1, at_once).done && !head->graph()->built() && asked == 1);
    PLSC_CHECK(head->build_graph(cpu.context, 2, [&] { return false; }).done);
    const auto lists = head->graph()->lists().values<int32_t>();
    set_centers(cpu.context, *head, now);
    PLSC_CHECK(!head->probe_graph(cpu.context, 3, at_once));
    asked = 0;  // three blocks, twice: in the second round
    PLSC_CHECK(!head->build_graph(cpu.context, 4, [&] { return ++asked == 5; }).done && asked == 5);
    PLSC_CHECK((head->graph()->lists().values<int32_t>() == lists && head->graph()->age() == GraphAge{2, 2}));
    train(cpu.context, *head, 0, 2);
  });
}

TEST_CASE("a graph that was stored is taken up by any number of ranks") {
  const GraphCase c = clustered_rows(kClasses, kColumns, 3);
  std::vector<int32_t> whole;
  std::vector<int64_t> expected;
  {
    CpuContext cpu;
    auto head = head_of(cpu.context, knn_head(), c);
    head->build_graph(cpu.context, 9, {});
    whole = head->graph()->lists().values<int32_t>();
    expected = train(cpu.context, *head, 9, 3);
  }
  for (const int ranks : {1, 2, 3}) {
    run_ranks(ranks, [&](ThreadRank& rank) {
      CpuContext cpu(rank);
      auto head = head_of(cpu.context, knn_head(), c);
      const Tensor lists = head->graph()->lists();
      const auto begin = whole.begin() + head->shard().begin * kNeighbours;
      std::copy_n(begin, lists.elements(), lists.data<int32_t>());
      head->graph()->restore(cpu.context, lists, {9, 11});
      PLSC_CHECK((head->graph()->age() == GraphAge{9, 11}));
      PLSC_CHECK(sum_over_ranks(cpu.context, train(cpu.context, *head, 9, 3)) == expected);
    });
  }
}

TEST_CASE("a stored graph that names what is no other class is an error on all ranks") {
  const GraphCase c = clustered_rows(kClasses, kColumns, 3);
  for (const int32_t wrong : {int32_t{kClasses}, -2, 150}) {
    run_ranks(2, [&](ThreadRank& rank) {
      CpuContext cpu(rank);
      auto head = head_of(cpu.context, knn_head(), c);
      head->build_graph(cpu.context, 9, {});
      const Tensor lists = Tensor::from(head->graph()->lists().values<int32_t>(), {head->shard().size(), kNeighbours});
      auto fresh = head_of(cpu.context, knn_head(), c);
      if (rank.rank == 1) lists.data<int32_t>()[(150 - head->shard().begin) * kNeighbours + 2] = wrong;
      const std::string text = error_text([&] { fresh->graph()->restore(cpu.context, lists, {9, 9}); });
      PLSC_CHECK(contains_all(text, {"class 150", "damaged", std::to_string(wrong).c_str()}), "{}", text);
      PLSC_CHECK(!fresh->graph()->built());
    });
  }
}

}  // namespace
}  // namespace plsc::test
