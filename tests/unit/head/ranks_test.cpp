// The head over 1 to 4 ranks: the same global batch gives the same losses, gradients and rows, however it is split.
#include <algorithm>
#include <atomic>
#include <cmath>

#include "base/threads.h"
#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/head_cases.h"
#include "support/head_step.h"

namespace plsc::test {
namespace {

struct Plan {
  HeadConfig config;
  int64_t classes = 50, columns = 12, batch = 10, steps = 3, micro_batches = 1;
  bool exact = false;  // sums in double
};

/// What a run leaves behind, put together over the ranks.
struct Outcome {
  std::vector<double> losses, d_embedding, centers, momentum;
  std::vector<int64_t> correct, nearest;
  std::vector<std::atomic<int64_t>> active;  // over all ranks, by run
};

/// This rank's samples of micro-batch m: the first (batch mod ranks) ranks take one more.
std::pair<int64_t, int64_t> slice(const Plan& plan, const ThreadRank& rank) {
  return {range_begin(plan.batch, rank.ranks, rank.rank), range_begin(plan.batch, rank.ranks, rank.rank + 1)};
}

template <class T>
void place(const std::vector<T>& part, int64_t at, std::vector<T>& whole) {
  std::copy(part.begin(), part.end(), whole.begin() + at);
}

void run_step(Context& context, MarginHead& head, const Plan& plan, const ThreadRank& rank, int64_t t, Outcome& out) {
  const auto [begin, end] = slice(plan, rank);
  std::vector<std::vector<int64_t>> mine;
  for (int64_t m = 0; m < plan.micro_batches; ++m) {
    const auto labels = random_labels(plan.batch, plan.classes, static_cast<uint64_t>(100 * t + m));
    mine.emplace_back(labels.begin() + begin, labels.begin() + end);
  }
  const StepInfo info{.step = t, .first_sample = begin, .global_batch = plan.batch * plan.micro_batches};
  begin_head(context, head, mine, info, {.lr = 0.3F, .momentum = 0.9F, .weight_decay = 0.01F});
  for (int64_t m = 0; m < plan.micro_batches; ++m) {
    const auto e = random_values(plan.batch * plan.columns, static_cast<uint64_t>(100 * t + m));
    const std::vector<double> part(e.begin() + begin * plan.columns, e.begin() + end * plan.columns);
    const HeadResult result = head.run(context, to_tensor(part, {end - begin, plan.columns}));
    const int64_t run = t * plan.micro_batches + m;
    place(to_doubles(result.d_embedding), (run * plan.batch + begin) * plan.columns, out.d_embedding);
    PLSC_CHECK(result.samples == plan.batch);
    out.active[static_cast<size_t>(run)] += result.active;
    if (rank.rank != 0) continue;
    out.losses.push_back(totals_of(context, result).loss_sum);
    out.correct.push_back(totals_of(context, result).correct);
  }
  head.end_step(context);
}

Outcome run_plan(const Plan& plan, int ranks, int threads = 1) {
  Outcome out;
  const int64_t runs = plan.steps * plan.micro_batches;
  out.d_embedding.resize(static_cast<size_t>(runs * plan.batch * plan.columns));
  const int64_t wide = row_columns(plan.config, plan.columns);
  out.centers.resize(static_cast<size_t>(plan.classes * wide));
  out.momentum.resize(out.centers.size());
  out.active = std::vector<std::atomic<int64_t>>(static_cast<size_t>(runs));
  run_ranks(ranks, [&](ThreadRank& rank) {
    CpuContext cpu(rank, threads);
    cpu.context.sums_in_double = plan.exact;
    auto head = drawn_head(cpu.context, plan.config, plan.classes, plan.columns);
    for (int64_t t = 0; t < plan.steps; ++t) run_step(cpu.context, *head, plan, rank, t, out);
    // An extra query on every rank, of different sizes.
    const auto query = random_values((rank.rank + 1) * plan.columns, 77);
    const auto nearest = head->nearest(cpu.context, to_tensor(query, {rank.rank + 1, plan.columns}), 3);
    if (rank.rank == 0) out.nearest = nearest.classes.values<int64_t>();
    place(to_doubles(head_rows(*head, "centers")), head->shard().begin * wide, out.centers);
    place(to_doubles(head_rows(*head, "momentum")), head->shard().begin * wide, out.momentum);
  });
  return out;
}

void check_invariance(const Plan& plan) {
  const Outcome one = run_plan(plan, 1);
  for (const int ranks : {2, 3, 4}) {
    const Outcome other = run_plan(plan, ranks);
    INFO(plan.config.kind << ", " << ranks << " ranks, " << plan.classes << " classes, batch " << plan.batch << ", "
                          << plan.micro_batches << " micro-batches, " << plan.config.sampling.method << ", "
                          << plan.config.update);
    // Sums run in another order: some fp32 roundings of logits, carried through three steps. A probability feels them
    // in proportion to the logit's size, so the bound of the centres is that of a scale of 64, and grows with it.
    const double logits = std::max(1.0, plan.config.scale / 64);
    CHECK(relative_error(other.losses, one.losses) < 2e-6);
    CHECK(relative_error(other.d_embedding, one.d_embedding) < 5e-5);
    CHECK(relative_error(other.centers, one.centers) < (logits > 1 ? 6e-6 * logits : 5e-6));
    CHECK(relative_error(other.momentum, one.momentum) < 5e-5);
    CHECK(other.correct == one.correct);
    CHECK(std::ranges::equal(other.active, one.active));
    CHECK(other.nearest == one.nearest);
  }
}

TEST_CASE("any number of ranks, full softmax: batches and classes that do not divide") {
  for (const int64_t classes : {50, 7, 4, 3, 2}) {
    for (const int64_t batch : {4, 10, 13}) {
      Plan plan;
      plan.classes = classes;
      plan.batch = batch;
      check_invariance(plan);
    }
  }
}

TEST_CASE("any number of ranks: uniform sampling, dense and lazy, down to the positives alone") {
  for (const double ratio : {0.0, 0.2, 0.7}) {
    for (const char* update : {"dense", "lazy"}) {
      Plan plan;
      plan.config.sampling = {"uniform", ratio};
      plan.config.update = update;
      plan.steps = 5;
      check_invariance(plan);
    }
  }
}

TEST_CASE("any number of ranks: a rank without a positive and without an active class") {
  Plan plan;
  plan.config.sampling = {"uniform", 0.0};
  plan.classes = 400;  // four positives: at most two of four ranks' shards are likely to have one
  plan.batch = 4;
  plan.steps = 4;
  check_invariance(plan);
}

TEST_CASE("any number of ranks: scales that need the running maximum, and the filter") {
  Plan plan;
  plan.config.scale = 100;
  check_invariance(plan);
  plan.config.interclass_filter = 0.2;
  check_invariance(plan);
  plan.classes = 1;
  check_invariance(plan);
}

TEST_CASE("any number of ranks: accumulated micro-batches") {
  for (const char* method : {"full", "uniform"}) {
    for (const char* kind : {"margin", "d_softmax", "linear"}) {
      Plan plan;
      plan.config.kind = kind;
      plan.config.sampling = {method, 0.3};
      plan.micro_batches = 3;
      check_invariance(plan);
    }
  }
}

TEST_CASE("any number of ranks: the linear head, full and sampled, down to one class") {
  for (const int64_t classes : {50, 7, 2, 1}) {
    for (const char* method : {"full", "uniform"}) {
      Plan plan;
      plan.config.kind = "linear";
      plan.config.sampling = {method, 0.3};
      plan.classes = classes;
      plan.batch = 13;
      check_invariance(plan);
    }
  }
}

TEST_CASE("any number of ranks: D-Softmax, full and sampled, with a running maximum, down to one class") {
  for (const int64_t classes : {50, 7, 2, 1}) {
    for (const auto& [method, update] : {std::pair("full", "dense"), {"uniform", "dense"}, {"uniform", "lazy"}}) {
      for (const double scale : {32.0, 100.0}) {
        Plan plan;
        plan.config.kind = "d_softmax";
        plan.config.sampling = {method, 0.3};
        plan.config.update = update;
        plan.config.scale = scale;
        plan.classes = classes;
        plan.batch = 13;
        check_invariance(plan);
      }
    }
  }
}

TEST_CASE("exact sums: the same bits on any number of ranks and threads") {
  for (const char* method : {"full", "uniform"}) {
    for (const auto& [kind, scale] :
         {std::pair("margin", 64.0), {"margin", 100.0}, {"d_softmax", 64.0}, {"d_softmax", 100.0}, {"linear", 64.0}}) {
      Plan plan;
      plan.exact = true;
      plan.config.sampling = {method, 0.3};
      plan.config.kind = kind;
      plan.config.scale = scale;
      plan.classes = 700;  // several tiles
      plan.batch = 13;
      const Outcome one = run_plan(plan, 1);
      for (const auto& [ranks, threads] : {std::pair{1, 3}, {2, 1}, {3, 2}, {4, 1}}) {
        const Outcome other = run_plan(plan, ranks, threads);
        INFO(ranks << " ranks of " << threads << " threads, " << kind << ", " << method << ", scale " << scale);
        CHECK(relative_error(other.losses, one.losses) < 1e-12);
        CHECK(other.d_embedding == one.d_embedding);
        CHECK(other.centers == one.centers);
        CHECK(other.momentum == one.momentum);
      }
    }
  }
}

TEST_CASE("a step of two micro-batches is the step of both at once") {
  // The same 20 samples: at once, and in two halves.
  for (const char* method : {"full", "uniform"}) {
    CpuContext cpu;
    HeadConfig config;
    config.sampling = {method, 0.2};
    auto whole = drawn_head(cpu.context, config, 60, 12);
    auto halves = drawn_head(cpu.context, config, 60, 12);
    for (int64_t t = 0; t < 3; ++t) {
      const auto e = random_values(20 * 12, static_cast<uint64_t>(t));
      const auto labels = random_labels(20, 60, static_cast<uint64_t>(t));
      const Tensor embeddings = to_tensor(e, {20, 12});
      const StepInfo info{.step = t, .global_batch = 20};
      const math::SgdRule update{.lr = 0.2F, .momentum = 0.9F, .weight_decay = 0.01F, .nesterov = true};
      begin_head(cpu.context, *whole, {labels}, info, update);
      const HeadResult at_once = whole->run(cpu.context, embeddings);
      whole->end_step(cpu.context);
      begin_head(cpu.context, *halves, {{labels.begin(), labels.begin() + 10}, {labels.begin() + 10, labels.end()}},
                 info, update);
      double loss = 0;
      std::vector<double> gradient;
      for (int64_t m = 0; m < 2; ++m) {
        const HeadResult half = halves->run(cpu.context, embeddings.rows(10 * m, 10));
        loss += totals_of(cpu.context, half).loss_sum;
        const auto part = to_doubles(half.d_embedding);
        gradient.insert(gradient.end(), part.begin(), part.end());
      }
      halves->end_step(cpu.context);
      CHECK(loss == Approx(totals_of(cpu.context, at_once).loss_sum).epsilon(1e-6));
      CHECK(relative_error(gradient, to_doubles(at_once.d_embedding)) < 1e-5);
    }
    CHECK(relative_error(to_doubles(head_rows(*halves, "centers")), to_doubles(head_rows(*whole, "centers"))) < 1e-6);
    CHECK(relative_error(to_doubles(head_rows(*halves, "momentum")), to_doubles(head_rows(*whole, "momentum"))) < 1e-5);
  }
}

TEST_CASE("values that are not finite stop every rank") {
  run_ranks(3, [](ThreadRank& rank) {
    CpuContext cpu(rank);
    HeadConfig config;
    auto head = drawn_head(cpu.context, config, 20, 4);
    Tensor e = to_tensor(random_values(8, 1), {2, 4});
    if (rank.rank == 2) e.data<float>()[1] = NAN;
    const std::vector<int64_t> labels{1, 15};
    begin_head(cpu.context, *head, {labels}, {.step = 5, .global_batch = 6}, {.lr = 1});
    const auto before = head_rows(*head, "centers").values<float>();
    head->run(cpu.context, e);
    head->end_step(cpu.context);
    PLSC_CHECK(state_of(cpu.context).failed != 0 && head_rows(*head, "centers").values<float>() == before);
  });
}

}  // namespace
}  // namespace plsc::test
