// The active classes from the class graph: the rule of the header, taken literally over the whole graph, whatever the
// number of ranks.
#include "head/neighbour_sampler.h"

#include <algorithm>
#include <map>

#include "kernels/math/rng.h"
#include "support/catch.h"
#include "support/graph_cases.h"
#include "support/thread_world.h"

namespace plsc::test {
namespace {

constexpr int64_t kClasses = 2000, kNeighbours = 40, kStep = 7;

/// (classes, kNeighbours) ids of all classes.
const Tensor& whole_graph() {
  static const Tensor graph = [] {
    const GraphCase c = clustered_rows(kClasses, 16, 12);
    CpuContext cpu;
    const ClassShard all = class_shard(kClasses, 1, 0);
    TensorRows rows = rows_of(cpu.context.device(), c, all);
    return build_graph(cpu.context, rows, all, {kNeighbours});
  }();
  return graph;
}

std::vector<int64_t> active(int ranks, const NeighbourSampling& sampling, const std::vector<int64_t>& labels,
                            int64_t step = kStep) {
  const Tensor& graph = whole_graph();
  std::vector<std::vector<int64_t>> parts(static_cast<size_t>(ranks));
  run_ranks(ranks, [&](ThreadRank& rank) {
    CpuContext cpu(rank);
    const ClassShard shard = class_shard(kClasses, ranks, rank.rank);
    NeighbourSampler sampler(shard, share_graph(cpu.context, shard, graph.rows(shard.begin, shard.size())),
                             kNeighbours);
    sampler.start(cpu.context, sampling, step + 1, labels);  // leaves nothing behind
    for (const int64_t row : sampler.start(cpu.context, sampling, step, labels).rows->get().values<int64_t>()) {
      parts[static_cast<size_t>(rank.rank)].push_back(shard.begin + row);
    }
  });
  std::vector<int64_t> out;
  for (const auto& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

/// The least place of each class that is no label itself in the lists of the labels.
std::map<int64_t, int64_t> places(const std::vector<int64_t>& labels) {
  std::map<int64_t, int64_t> near;
  for (const int64_t label : labels) {
    for (int64_t n = 0; label >= 0 && n < kNeighbours; ++n) {
      const int64_t c = whole_graph().data<int32_t>()[label * kNeighbours + n];
      if (std::ranges::count(labels, c) > 0) continue;
      const auto at = near.emplace(c, n).first;
      at->second = std::min(at->second, n);
    }
  }
  return near;
}

TEST_CASE("the nearest first, ties by key, the rest as the uniform sampler draws") {
  const std::vector<int64_t> labels{3, 1999, 3, 700, -1, 42, 43, 44, 1000};
  constexpr int64_t kPositives = 7;
  const auto near = places(labels);
  for (const NeighbourSampling sampling :
       {NeighbourSampling{0.05, 0.2}, {0.05, 0.0}, {0.1, 0.9}, {0.5, 0.1}, {0.001, 0.5}, {1.0, 0.0}}) {
    INFO("ratio " << sampling.ratio << ", share " << sampling.uniform_share);
    const auto one = active(1, sampling, labels);
    for (const int ranks : {2, 3, 4}) CHECK(active(ranks, sampling, labels) == one);

    const double wanted = sampling.ratio * kClasses;
    double left = std::max(0.0, wanted * (1 - sampling.uniform_share) - kPositives), taken = kPositives;
    std::map<int64_t, double> threshold;  // by place
    for (int64_t n = 0; n < kNeighbours; ++n) {
      const auto here = static_cast<double>(std::ranges::count_if(near, [&](const auto& c) { return c.second == n; }));
      threshold[n] = here > 0 ? std::min(1.0, left / here) : 0;
      taken += std::min(left, here);
      left -= std::min(left, here);
    }
    const double uniform = taken < kClasses ? std::max(0.0, (wanted - taken) / (kClasses - taken)) : 0;
    for (int64_t c = 0; c < kClasses; ++c) {
      const auto tie = math::to_unit_double(
          math::random64(1, math::Draw::neighbour_tie, static_cast<uint64_t>(kStep), static_cast<uint64_t>(c)));
      const auto keys =
          math::random4(1, math::Draw::class_sample, static_cast<uint64_t>(kStep), static_cast<uint64_t>(c / 4));
      const auto found = near.find(c);
      const bool expected = std::ranges::count(labels, c) > 0 ||
                            (found != near.end() && tie < threshold[found->second]) ||
                            static_cast<double>(keys.x[c % 4]) < uniform * 4294967296.0;
      if (std::ranges::binary_search(one, c) != expected) FAIL("class " << c << ": expected " << expected);
    }
  }
}

TEST_CASE("as many classes as wanted in the mean, others at each step") {
  const std::vector<int64_t> labels{5, 900, 1500};
  double total = 0;
  for (int64_t step = 0; step < 40; ++step) {
    total += static_cast<double>(active(1, {0.1, 0.3}, labels, step).size());
  }
  // 3 + 117 neighbours at the most (three lists of 40), the rest of 200 uniform: deviation below sqrt(200 / 40) = 2.2
  // of the mean; four times that.
  CHECK(total / 40 == Approx(200).margin(9));
  CHECK(active(1, {0.1, 0.3}, labels, 0) != active(1, {0.1, 0.3}, labels, 1));
}

TEST_CASE("no label at all leaves the uniform part") {
  const auto rows = active(2, {0.1, 0.1}, {-1, -1});
  CHECK(rows.size() > 140);  // 200 +- 13; more than four times that
  CHECK(rows.size() < 260);
}

}  // namespace
}  // namespace plsc::test
