// Corner cases of the head: cosines of exactly 1 and -1, losses next to nothing, values that are not finite.
#include <cstring>
#include <limits>

#include "support/catch.h"
#include "support/error_text.h"
#include "support/head_cases.h"
#include "support/head_context.h"
#include "support/head_step.h"

namespace plsc::test {
namespace {

constexpr int64_t kColumns = 16;

/// Embeddings and centres along the axes: every cosine is exactly 1, 0 or -1.
std::vector<double> along_axes(const std::vector<std::pair<int, double>>& rows) {
  std::vector<double> out(rows.size() * kColumns, 0.0);
  for (size_t i = 0; i < rows.size(); ++i) out[i * kColumns + static_cast<size_t>(rows[i].first)] = rows[i].second;
  return out;
}

struct Run {
  HeadResult result;
  HeadTotals totals;
  std::vector<double> d_weight;
};
Run run(Context& context, const HeadConfig& config, const std::vector<double>& e, const std::vector<int64_t>& labels,
        const std::vector<double>& w) {
  const auto samples = static_cast<int64_t>(labels.size()), classes = static_cast<int64_t>(w.size()) / kColumns;
  auto head = drawn_head(context, config, classes, kColumns);
  set_values(context, head_rows(*head, "centers"), w);
  begin_head(context, *head, {labels}, {.step = 3, .global_batch = samples}, {.momentum = 0.9F});
  Run out;
  out.result = head->run(context, to_device_tensor(context, e, {samples, kColumns}));
  out.totals = totals_of(context, out.result);
  head->end_step(context);
  out.d_weight = to_doubles(context, head_rows(*head, "momentum"));
  return out;
}

TEST_CASE("cosines of exactly 1 and -1 give finite losses and the textbook's gradients") {
  HeadContext rank;
  // Sample 0 lies on its centre, sample 1 opposite to its own and on another's, sample 2 across all.
  const auto e = along_axes({{0, 2.0}, {1, 0.5}, {5, 1.0}});
  const auto w = along_axes({{0, 1.0}, {1, -4.0}, {1, 2.0}, {0, -1.0}});
  for (const char* name : {"arcface", "cosface", "sphereface", "none"}) {
    HeadConfig config;
    config.margin = named_margin(name);
    config.scale = 20;
    const ReferenceStep expected = reference_step(reference_of(config, 4, kColumns), e, {0, 1, 2}, w, 1.0 / 3);
    const Run seen = run(rank.context, config, e, {0, 1, 2}, w);
    INFO(name);
    CHECK(seen.totals.loss_sum == Approx(expected.loss_sum).epsilon(1e-6));
    CHECK(seen.totals.correct == expected.correct);
    CHECK(relative_error(to_doubles(rank.context, seen.result.d_embedding), expected.d_embedding) < 1e-5);
    CHECK(relative_error(seen.d_weight, expected.d_weight) < 1e-5);
  }
}

TEST_CASE("a zero embedding and a zero centre do what normalisation with a floor does") {
  HeadContext rank;
  const auto e = along_axes({{0, 0.0}, {1, 0.5}});
  const auto w = along_axes({{0, 1.0}, {1, 1.0}, {2, 0.0}});
  HeadConfig config;
  config.scale = 4;
  const ReferenceStep expected = reference_step(reference_of(config, 3, kColumns), e, {1, 0}, w, 0.5);
  const Run seen = run(rank.context, config, e, {1, 0}, w);
  CHECK(seen.totals.loss_sum == Approx(expected.loss_sum).epsilon(1e-6));
  CHECK(relative_error(to_doubles(rank.context, seen.result.d_embedding), expected.d_embedding) < 1e-5);
  CHECK(relative_error(seen.d_weight, expected.d_weight) < 1e-5);
}

TEST_CASE("a loss keeps its relative accuracy however far the target leads") {
  HeadContext rank;
  for (const double scale : {20.0, 40.0, 64.0, 150.0}) {
    HeadConfig config;
    config.margin = named_margin("none");
    config.scale = scale;
    // Two negatives at cosine 0: the target leads by `scale` nats, and the loss is ln(1 + 2 e^-scale).
    const Run seen = run(rank.context, config, along_axes({{0, 1.0}}), {0}, along_axes({{0, 1.0}, {1, 1.0}, {2, 1.0}}));
    // fp32's ln of the sum and its shift are off by 1e-6 for the widest.
    CHECK(seen.totals.loss_sum == Approx(std::log1p(2 * std::exp(-scale))).epsilon(2e-5).margin(0));
    CHECK(seen.totals.correct == 1);
  }
}

TEST_CASE("one class: no loss and no gradient") {
  HeadContext rank;
  for (const double scale : {64.0, 200.0}) {
    HeadConfig config;
    config.scale = scale;
    const Run seen = run(rank.context, config, random_values(kColumns, 1), {0}, random_values(kColumns, 2));
    CHECK(seen.totals.loss_sum == 0);
    CHECK(seen.totals.correct == 1);
    for (double g : to_doubles(rank.context, seen.result.d_embedding)) CHECK(g == 0);
    for (double g : seen.d_weight) CHECK(g == 0);
  }
}

TEST_CASE("values that are not finite end the step before a row changes") {
  HeadContext rank(2);
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  for (const float value : bad) {
    for (const bool in_row : {false, true}) {
      for (const double scale : {64.0, 200.0}) {
        HeadConfig config;
        config.scale = scale;
        auto head = drawn_head(rank.context, config, 40, kColumns);
        const Tensor centers = head_rows(*head, "centers");
        std::vector<double> w = to_doubles(rank.context, centers), e = random_values(3 * kColumns, 9);
        (in_row ? w : e)[kColumns + 2] = value;
        set_values(rank.context, centers, w);
        begin_head(rank.context, *head, {std::vector<int64_t>{0, 7, 39}}, {.step = 12, .global_batch = 3},
                   {.lr = 0.1F});
        head->run(rank.context, to_device_tensor(rank.context, e, {3, kColumns}));
        INFO(" value " << value << " in row " << in_row << " scale " << scale);
        CHECK(state_of(rank.context).failed == 1);  // the loss
        set_fresh_state(rank.context);
        const auto after = to_doubles(rank.context, centers);
        CHECK(std::memcmp(w.data(), after.data(), w.size() * sizeof(double)) == 0);
      }
    }
  }
}

}  // namespace
}  // namespace plsc::test
