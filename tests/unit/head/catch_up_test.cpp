// Rows that were left out of steps, caught up by products of 2x2 matrices, against rows that take every step.
#include <cmath>

#include "backend/cpu/row_change.h"
#include "head/catch_up_table.h"
#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/error_text.h"
#include "support/head_cases.h"
#include "support/head_step.h"
#include "support/row_reference.h"

namespace plsc::test {
namespace {

constexpr int64_t kSteps = 5000;
constexpr auto kSgd = math::UpdateKind::sgd, kAdamw = math::UpdateKind::adamw;

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

/// The same as in the rates of SGD above.
math::UpdateRule rule_at(int64_t step, math::UpdateKind kind, float decay) {
  math::UpdateRule rule = row_rule(kind);
  rule.lr *= static_cast<float>(std::pow(1 - static_cast<double>(step) / kSteps, 2));
  rule.weight_decay = decay;
  return rule;
}

TEST_CASE("catching up is dense LARS a row, in double to 1e-12 over 5,000 steps of a falling rate") {
  constexpr size_t kWide = 3;
  for (const float decay : {5e-4F, 0.0F}) {
    for (uint64_t row = 0; row < 8; ++row) {
      std::vector<double> w{0.01 * (static_cast<double>(row) + 1), -0.3, 0.2}, v(kWide, 0.0), none{0};
      std::vector<double> lazy_w = w, lazy_v = v;
      math::CatchUpMatrix<double> missed;
      for (int64_t t = 0; t < kSteps; ++t) {
        const ReferenceRows dense{rule_at(t, math::UpdateKind::lars, decay), kWide, {}};
        std::vector<double> g(kWide, 0.0);
        if (sampled(t, row)) {
          for (size_t d = 0; d < kWide; ++d) {
            g[d] = gradient(t, 8 * d + row);
            math::catch_up(missed, lazy_w[d], lazy_v[d]);
          }
          missed = {};
          dense.step(g, t + 1, lazy_w, lazy_v, none);
        } else {
          missed = math::compose(math::idle_lars(dense.rule), missed);
        }
        dense.step(g, t + 1, w, v, none);
      }
      for (size_t d = 0; d < kWide; ++d) {
        math::catch_up(missed, lazy_w[d], lazy_v[d]);
        CHECK(lazy_w[d] == Approx(w[d]).epsilon(1e-12).margin(1e-14));
        CHECK(lazy_v[d] == Approx(v[d]).epsilon(1e-12).margin(1e-14));
      }
    }
  }
}

TEST_CASE("catching up is dense AdamW with a row's second moment, in double to 1e-12 over 5,000 steps") {
  constexpr size_t kWide = 3;
  for (const float decay : {0.05F, 0.0F}) {
    for (uint64_t row = 0; row < 8; ++row) {
      std::vector<double> w{0.01 * (static_cast<double>(row) + 1), -0.3, 0.2}, m(kWide, 0.0), second{0};
      std::vector<double> lazy_w = w, lazy_m = m, lazy_second = second;
      math::CatchUpMatrix<double> missed;
      std::vector<math::CoastingStep> steps;
      const auto catch_up = [&] {
        math::CoastingRow coasting{.root = std::sqrt(lazy_second[0])};
        for (const auto& step : steps) math::coast(step, coasting);
        missed.wv = -coasting.moved;
        for (size_t d = 0; d < kWide; ++d) math::catch_up(missed, lazy_w[d], lazy_m[d]);
        lazy_second[0] = std::pow(coasting.root, 2);
        missed = {};
        steps.clear();
      };
      for (int64_t t = 0; t < kSteps; ++t) {
        math::UpdateRule rule = rule_at(t, math::UpdateKind::adamw, decay);
        rule.epsilon = row % 2 == 0 ? 1e-8F : 1e-3F;  // one that is as large as the gradients
        rule.beta2 = 0.999;
        const ReferenceRows dense{rule, kWide, {}};
        std::vector<double> g(kWide, 0.0);
        if (sampled(t, row)) {
          for (size_t d = 0; d < kWide; ++d) g[d] = gradient(t, 8 * d + row);
          catch_up();
          dense.step(g, t + 1, lazy_w, lazy_m, lazy_second);
        } else {
          const math::CatchUpMatrix<double> step = math::idle_adamw(rule);
          for (math::CoastingStep& earlier : steps) earlier.rate *= 1 + step.ww1;
          missed = math::compose(step, missed);
          steps.push_back(math::coasting_step(rule, t + 1));
        }
        dense.step(g, t + 1, w, m, second);
      }
      catch_up();
      for (size_t d = 0; d < kWide; ++d) {
        CHECK(lazy_w[d] == Approx(w[d]).epsilon(1e-12).margin(1e-14));
        CHECK(lazy_m[d] == Approx(m[d]).epsilon(1e-12).margin(1e-14));
      }
      CHECK(lazy_second[0] == Approx(second[0]).epsilon(1e-12));
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
    table.append(math::update_rule(rules.back()), t + 1);
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

TEST_CASE("AdamW's table equals single steps for rows of any age in its window, past steps that were skipped") {
  CpuContext cpu;
  CatchUpTable table;
  constexpr int64_t kUpdates = CatchUpTable::kWindow + 50;
  const auto skipped = [](int64_t t) { return t < 2 || t % 7 == 3; };
  std::vector<math::UpdateRule> rules;
  std::vector<int64_t> numbers;
  int64_t made = 0;
  for (int64_t t = 0; t < kUpdates; ++t) {
    rules.push_back(rule_at(t, kAdamw, 0.05F));
    numbers.push_back(skipped(t) ? 0 : ++made);
    skipped(t) ? table.append_skipped(kAdamw) : table.append(rules.back(), made);
  }
  CHECK(table.next() == kUpdates);
  CHECK(table.first() == 50);
  std::vector<int64_t> last(1);
  const RowLag lag = table.lag(cpu.context.device(), last.data());
  for (const int64_t age : {int64_t{1}, int64_t{2}, int64_t{17}, CatchUpTable::kWindow}) {
    for (const double start : {0.0, 1e-9, 0.04}) {  // of the second moment
      std::vector<double> w{0.3}, m{start == 0 ? 0 : -0.2}, second{double{static_cast<float>(start)}};
      std::vector<float> row{0.3F}, mean{static_cast<float>(m[0])}, moment{static_cast<float>(start)};
      for (int64_t t = kUpdates - age; t < kUpdates; ++t) {
        if (!skipped(t))
          ReferenceRows{rules[static_cast<size_t>(t)], 1, {}}.step({0}, numbers[static_cast<size_t>(t)], w, m, second);
      }
      RowTile tile;
      tile.count = 1;
      tile.weight = row.data();
      tile.momentum = mean.data();
      tile.second_moment = moment.data();
      tile.lag = lag;
      last[0] = kUpdates - age;
      RowScratch scratch(1);
      float read = 0;
      read_row(tile, 0, 1, scratch, &read);
      catch_up_row(tile, 0, 1, scratch);
      INFO("age " << age << ", second moment " << start);
      // A first moment far above the root of the second moves w by hundreds: what is lost is relative to that.
      CHECK(row[0] == Approx(w[0]).epsilon(1e-6));
      // The same formula in two loops; in one of them a compiler may join a product and a sum: two roundings of fp32.
      CHECK(read == Approx(row[0]).epsilon(2.4e-7));
      CHECK(mean[0] == Approx(m[0]).epsilon(3e-7).margin(1e-30));
      CHECK(moment[0] == Approx(second[0]).epsilon(3e-7).margin(1e-30));
      CHECK(last[0] == kUpdates);
    }
  }
}

TEST_CASE("a table of AdamW comes back from its text, with the optimizer that it is of") {
  CatchUpTable table;
  for (int64_t t = 0; t < 20; ++t) table.append(rule_at(t, kAdamw, 0.05F), t + 1);
  CatchUpTable other;
  const CatchUpTable::Stored stored = other.from_json(table.to_json(true, kAdamw));
  CHECK(stored.lagging);
  CHECK(stored.update == kAdamw);
  CHECK(other.to_json(true, kAdamw) == table.to_json(true, kAdamw));
  CHECK(other.coasting().values<double>() == table.coasting().values<double>());
  CHECK_FALSE(contains(CatchUpTable().to_json(true, kSgd), "update\""));  // as it was before there were others
  const std::string one = R"({"updates":1,"lagging":true,"update":"adamw","products":[[0,0,0,1]],"coasting":)";
  for (const char* rest : {"[]}", "[[1,1,1e-8,0.9]]}", "[[1,1,1e-8,0.9,-0.9]]}", "[[1,1,0,0.9,0.9]]}",
                           "[[1,1,1e-8,0.9,1e999]]}", R"([[1,1,1e-8,0.9,0.9],[1,1,1e-8,0.9,0.9]]})"}) {
    INFO(rest);
    CHECK(contains(error_text([&] { CatchUpTable().from_json(one + rest); }), "catch-up table"));
  }
  CHECK(contains(
      error_text([&] { CatchUpTable().from_json(R"({"updates":0,"lagging":true,"update":"adam","products":[]})"); }),
      "an optimizer 'adam', expected sgd, lars, adamw or lamb"));
}

TEST_CASE("the table's text gives the same table, and damaged text is an error") {
  CatchUpTable table;
  for (int64_t t = 0; t < 20; ++t) table.append(math::update_rule(rule_at(t, false)), t + 1);
  CatchUpTable other;
  CHECK(other.from_json(table.to_json(true, kSgd)).lagging);
  CHECK(other.to_json(true, kSgd) == table.to_json(true, kSgd));
  CHECK(other.next() == 20);
  CHECK_FALSE(CatchUpTable().from_json(CatchUpTable().to_json(false, kSgd)).lagging);
  for (const char* text : {"", "{}", "[1]", R"({"updates":1,"lagging":true,"products":[[1,2,3]]})",
                           R"({"updates":1,"lagging":true,"products":[[0,0,0,1],[0,0,0,1]]})",
                           R"({"updates":1,"lagging":true,"products":[[0,0,0,1e999]]})",
                           R"({"updates":1,"lagging":true,"update":"adamw","products":[[0,0,0,1]]})",
                           R"({"updates":1,"lagging":true,"products":[[0,0,0,1]],"coasting":[[0,0,1,0,0]]})"}) {
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
