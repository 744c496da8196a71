// Rows that were left out of steps, caught up by products of 2x2 matrices, against rows that take every step.
#include <cmath>

#include "head/catch_up_table.h"
#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/error_text.h"
#include "support/head_cases.h"
#include "support/head_step.h"

namespace plsc::test {
namespace {

constexpr int64_t kSteps = 5000;

math::SgdRule rule_at(int64_t step, bool nesterov) {
  math::SgdRule rule;
  rule.lr = static_cast<float>(0.1 * std::pow(1 - static_cast<double>(step) / kSteps, 2));
  rule.momentum = 0.9F;
  rule.weight_decay = 5e-4F;
  rule.nesterov = nesterov;
  return rule;
}
/// The row takes part in about one step of ten, with this gradient.
bool sampled(int64_t step, uint64_t row) {
  return math::random64(5, math::Draw::synthetic, row, static_cast<uint64_t>(step)) % 10 == 0;
}
double gradient(int64_t step, uint64_t row) {
  const auto bits = math::random64(6, math::Draw::synthetic, row, static_cast<uint64_t>(step));
  return 0.02 * (2 * math::to_unit_double(bits) - 1);
}

template <class T>
void dense_step(const math::SgdRule& rule, T g, T& w, T& v) {
  g += static_cast<T>(rule.weight_decay) * w;
  v = static_cast<T>(rule.momentum) * v + g;
  w -= static_cast<T>(rule.lr) * (rule.nesterov ? g + static_cast<T>(rule.momentum) * v : v);
}

TEST_CASE("catching up is dense SGD, in double to 1e-12 over 5,000 steps of a falling rate") {
  for (const bool nesterov : {false, true}) {
    for (uint64_t row = 0; row < 8; ++row) {
      double w = 0.01 * (static_cast<double>(row) + 1), v = 0, lazy_w = w, lazy_v = 0;
      math::CatchUpMatrix<double> missed;
      for (int64_t t = 0; t < kSteps; ++t) {
        const math::SgdRule rule = rule_at(t, nesterov);
        if (sampled(t, row)) {
          math::catch_up(missed, lazy_w, lazy_v);
          missed = {};
          dense_step(rule, gradient(t, row), lazy_w, lazy_v);
          dense_step(rule, gradient(t, row), w, v);
        } else {
          missed = math::compose(math::idle_step(rule), missed);
          dense_step(rule, 0.0, w, v);
        }
      }
      math::catch_up(missed, lazy_w, lazy_v);
      CHECK(lazy_w == Approx(w).epsilon(1e-12).margin(1e-14));
      CHECK(lazy_v == Approx(v).epsilon(1e-12).margin(1e-14));
    }
  }
}

TEST_CASE("in fp32 a caught-up row is no further from the truth than one that takes every step in fp32") {
  double dense_error = 0, lazy_error = 0;
  for (uint64_t row = 0; row < 64; ++row) {
    double w = 0.01 * (static_cast<double>(row) + 1), v = 0;
    float dense_w = static_cast<float>(w), dense_v = 0, lazy_w = dense_w, lazy_v = 0;
    math::CatchUpMatrix<double> missed;
    for (int64_t t = 0; t < kSteps; ++t) {
      const math::SgdRule rule = rule_at(t, false);
      const bool here = sampled(t, row);
      const double g = here ? gradient(t, row) : 0;
      dense_step(rule, g, w, v);
      math::sgd_update(rule, static_cast<float>(g), dense_w, dense_v);
      if (!here) {
        missed = math::compose(math::idle_step(rule), missed);
        continue;
      }
      const math::CatchUpMatrix<float> m{static_cast<float>(missed.ww1), static_cast<float>(missed.wv),
                                         static_cast<float>(missed.vw), static_cast<float>(missed.vv)};
      math::catch_up(m, lazy_w, lazy_v);
      missed = {};
      math::sgd_update(rule, static_cast<float>(g), lazy_w, lazy_v);
    }
    dense_error += std::pow(dense_w - w, 2);
    lazy_error += std::pow(lazy_w - w, 2);
  }
  CHECK(lazy_error <= dense_error);
}

TEST_CASE("the table's products equal single steps, for rows of any age in its window") {
  CpuContext cpu;
  CatchUpTable table;
  std::vector<math::SgdRule> rules;
  for (int64_t t = 0; t < CatchUpTable::kWindow + 50; ++t) {
    rules.push_back(rule_at(t, t % 3 == 0));
    table.append(rules.back());
  }
  CHECK(table.next() == CatchUpTable::kWindow + 50);
  CHECK(table.first() == 50);
  int64_t unused = 0;
  const RowLag lag = table.lag(cpu.context.device(), &unused);
  for (int64_t age : {int64_t{1}, int64_t{2}, int64_t{17}, CatchUpTable::kWindow}) {
    double w = 0.3, v = -0.2;
    for (int64_t t = table.next() - age; t < table.next(); ++t) dense_step(rules[static_cast<size_t>(t)], 0.0, w, v);
    float lazy_w = 0.3F, lazy_v = -0.2F;
    math::catch_up(lag.steps[table.next() - age - lag.first], lazy_w, lazy_v);
    CHECK(lazy_w == Approx(w).epsilon(3e-7));
    CHECK(lazy_v == Approx(v).epsilon(3e-7).margin(1e-9));
  }
}

TEST_CASE("the table's text gives the same table, and damaged text is an error") {
  CatchUpTable table;
  for (int64_t t = 0; t < 20; ++t) table.append(rule_at(t, false));
  CatchUpTable other;
  CHECK(other.from_json(table.to_json(true)));
  CHECK(other.to_json(true) == table.to_json(true));
  CHECK(other.next() == 20);
  CHECK_FALSE(CatchUpTable().from_json(CatchUpTable().to_json(false)));
  for (const char* text : {"", "{}", "[1]", R"({"updates":1,"lagging":true,"products":[[1,2,3]]})",
                           R"({"updates":1,"lagging":true,"products":[[0,0,0,1],[0,0,0,1]]})",
                           R"({"updates":1,"lagging":true,"products":[[0,0,0,1e999]]})"}) {
    INFO(text);
    CHECK(contains(error_text([&] { CatchUpTable().from_json(text); }), "catch-up table"));
  }
}

/// Dense SGD in double over all rows, whose gradient is that of the softmax over each step's active classes.
TEST_CASE("a head with uniform sampling trains its rows as dense SGD does, through sweeps and the table's window") {
  constexpr int64_t kClasses = 60, kColumns = 8, kBatch = 4, kRun = 2300;
  for (const bool nesterov : {false, true}) {
    CpuContext cpu(2);
    HeadConfig config;
    config.scale = 8;
    // Next to nothing but positives, of half of the classes: the others lag as far as they may.
    config.sampling = {"uniform", 0.06};
    auto head = drawn_head(cpu.context, config, kClasses, kColumns);
    std::vector<double> w = to_doubles(head_rows(*head, "centers")), v(w.size(), 0.0);
    for (int64_t t = 0; t < kRun; ++t) {
      const auto e = random_values(kBatch * kColumns, static_cast<uint64_t>(t));
      const auto labels = random_labels(kBatch, kClasses / 2, static_cast<uint64_t>(t));
      const double lr = 0.05 * std::pow(1 - static_cast<double>(t) / kRun, 2);
      ReferenceHead reference = reference_of(config, kClasses, kColumns);
      reference.active = sampled_classes(cpu.context.seed, t, kClasses, 0.06, labels);
      const ReferenceStep expected = reference_step(reference, e, labels, w, 1.0 / kBatch);
      ReferenceSgd{static_cast<double>(static_cast<float>(lr)), 0.9F, 5e-3F, nesterov}.step(expected.d_weight, w, v);
      begin_head(cpu.context, *head, {labels}, {.step = t, .global_batch = kBatch},
                 {.lr = static_cast<float>(lr), .momentum = 0.9F, .weight_decay = 5e-3F, .nesterov = nesterov});
      const HeadResult seen = head->run(cpu.context, to_tensor(e, {kBatch, kColumns}));
      head->end_step(cpu.context);
      // Both runs are stable, so that fp32's rounding stays where it arises.
      REQUIRE(totals_of(cpu.context, seen).loss_sum == Approx(expected.loss_sum).epsilon(2e-5));
    }
    // `nearest` sees the rows as they would be, and leaves the stored ones alone.
    const auto raw = head_rows(*head, "centers").values<float>();
    std::vector<double> unit(kColumns, 0.0);
    unit[3] = 1;
    const auto nearest = head->nearest(cpu.context, to_tensor(unit, {1, kColumns}), kClasses);
    for (int64_t n = 0; n < kClasses; ++n) {
      const auto row = static_cast<size_t>(nearest.classes.data<int64_t>()[n] * kColumns);
      double length = 0;
      for (size_t d = 0; d < kColumns; ++d) length += w[row + d] * w[row + d];
      CHECK(nearest.cosines.data<float>()[n] == Approx(w[row + 3] / std::sqrt(length)).margin(1e-5));
    }
    CHECK(head_rows(*head, "centers").values<float>() == raw);
    // No stored row lags further than the sweep allows.
    for (int64_t last : head_rows(*head, "last_update").values<int64_t>()) CHECK(last >= kRun - CatchUpTable::kWindow);
  }
}

TEST_CASE("lazy rows stay exactly where they are while they are not sampled") {
  CpuContext cpu;
  HeadConfig config;
  config.sampling = {"uniform", 0.1};
  config.update = "lazy";
  auto head = drawn_head(cpu.context, config, 100, 8);
  const auto before = head_rows(*head, "centers").values<float>();
  std::vector<bool> touched(100, false);
  for (int64_t t = 0; t < 4; ++t) {
    const auto labels = random_labels(5, 100, static_cast<uint64_t>(t));
    const auto active = sampled_classes(cpu.context.seed, t, 100, 0.1, labels);
    for (size_t j = 0; j < 100; ++j) touched[j] = touched[j] || active[j];
    begin_head(cpu.context, *head, {labels}, {.step = t, .global_batch = 5},
               {.lr = 0.1F, .momentum = 0.9F, .weight_decay = 0.1F});
    head->run(cpu.context, to_tensor(random_values(40, static_cast<uint64_t>(t)), {5, 8}));
    head->end_step(cpu.context);
  }
  const auto after = head_rows(*head, "centers").values<float>();
  CHECK_FALSE(head_rows(*head, "last_update").defined());
  for (size_t j = 0; j < 100; ++j) {
    CHECK((std::equal(&after[j * 8], &after[j * 8] + 8, &before[j * 8])) == !touched[j]);
  }
}

}  // namespace
}  // namespace plsc::test
