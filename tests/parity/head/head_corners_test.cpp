// Corner cases of the head: cosines of exactly 1 and -1, losses next to nothing, labels and products beyond 32 bits,
// values that are not finite.
#include <cstring>
#include <limits>

#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/error_text.h"
#include "support/head_cases.h"
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
  std::copy(w.begin(), w.end(), head_rows(*head, "centers").data<float>());
  begin_head(context, *head, {labels}, {.step = 3, .global_batch = samples}, {.momentum = 0.9F});
  Run out;
  out.result = head->run(context, to_tensor(e, {samples, kColumns}));
  out.totals = totals_of(context, out.result);
  head->end_step(context);
  out.d_weight = to_doubles(head_rows(*head, "momentum"));
  return out;
}

TEST_CASE("cosines of exactly 1 and -1 give finite losses and the textbook's gradients") {
  CpuContext cpu;
  // Sample 0 lies on its centre, sample 1 opposite to its own and on another's, sample 2 across all.
  const auto e = along_axes({{0, 2.0}, {1, 0.5}, {5, 1.0}});
  const auto w = along_axes({{0, 1.0}, {1, -4.0}, {1, 2.0}, {0, -1.0}});
  for (const char* name : {"arcface", "cosface", "sphereface", "none"}) {
    HeadConfig config;
    config.margin = named_margin(name);
    config.scale = 20;
    const ReferenceStep expected = reference_step(reference_of(config, 4, kColumns), e, {0, 1, 2}, w, 1.0 / 3);
    const Run seen = run(cpu.context, config, e, {0, 1, 2}, w);
    INFO(name);
    CHECK(seen.totals.loss_sum == Approx(expected.loss_sum).epsilon(1e-6));
    CHECK(seen.totals.correct == expected.correct);
    CHECK(relative_error(to_doubles(seen.result.d_embedding), expected.d_embedding) < 1e-5);
    CHECK(relative_error(seen.d_weight, expected.d_weight) < 1e-5);
  }
}

TEST_CASE("a zero embedding and a zero centre do what normalisation with a floor does") {
  CpuContext cpu;
  const auto e = along_axes({{0, 0.0}, {1, 0.5}});
  const auto w = along_axes({{0, 1.0}, {1, 1.0}, {2, 0.0}});
  HeadConfig config;
  config.scale = 4;
  const ReferenceStep expected = reference_step(reference_of(config, 3, kColumns), e, {1, 0}, w, 0.5);
  const Run seen = run(cpu.context, config, e, {1, 0}, w);
  CHECK(seen.totals.loss_sum == Approx(expected.loss_sum).epsilon(1e-6));
  CHECK(relative_error(to_doubles(seen.result.d_embedding), expected.d_embedding) < 1e-5);
  CHECK(relative_error(seen.d_weight, expected.d_weight) < 1e-5);
}

TEST_CASE("a loss keeps its relative accuracy however far the target leads") {
  CpuContext cpu;
  for (const double scale : {20.0, 40.0, 64.0, 150.0}) {
    HeadConfig config;
    config.margin = named_margin("none");
    config.scale = scale;
    // Two negatives at cosine 0: the target leads by `scale` nats, and the loss is ln(1 + 2 e^-scale).
    const Run seen = run(cpu.context, config, along_axes({{0, 1.0}}), {0}, along_axes({{0, 1.0}, {1, 1.0}, {2, 1.0}}));
    // fp32's ln of the sum and its shift are off by 1e-6 for the widest.
    CHECK(seen.totals.loss_sum == Approx(std::log1p(2 * std::exp(-scale))).epsilon(2e-5).margin(0));
    CHECK(seen.totals.correct == 1);
  }
}

TEST_CASE("one class: no loss and no gradient") {
  CpuContext cpu;
  for (const double scale : {64.0, 200.0}) {
    HeadConfig config;
    config.scale = scale;
    const Run seen = run(cpu.context, config, random_values(kColumns, 1), {0}, random_values(kColumns, 2));
    CHECK(seen.totals.loss_sum == 0);
    CHECK(seen.totals.correct == 1);
    for (double g : to_doubles(seen.result.d_embedding)) CHECK(g == 0);
    for (double g : seen.d_weight) CHECK(g == 0);
  }
}

TEST_CASE("values that are not finite end the step before a row changes") {
  CpuContext cpu(2);
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  for (const float value : bad) {
    for (const bool in_row : {false, true}) {
      for (const double scale : {64.0, 200.0}) {
        HeadConfig config;
        config.scale = scale;
        auto head = drawn_head(cpu.context, config, 40, kColumns);
        Tensor centers = head_rows(*head, "centers");
        Tensor embeddings = to_tensor(random_values(3 * kColumns, 9), {3, kColumns});
        (in_row ? centers : embeddings).data<float>()[kColumns + 2] = value;
        const auto before = centers.values<float>();
        begin_head(cpu.context, *head, {std::vector<int64_t>{0, 7, 39}}, {.step = 12, .global_batch = 3}, {.lr = 0.1F});
        head->run(cpu.context, embeddings);
        INFO(" value " << value << " in row " << in_row << " scale " << scale);
        CHECK(state_of(cpu.context).failed == 1);  // the loss
        set_fresh_state(cpu.context);
        CHECK(std::memcmp(before.data(), centers.data<float>(), centers.bytes()) == 0);
      }
    }
  }
}

TEST_CASE("labels beyond 2^24 and more logits than 2^31") {
#ifndef PLSC_SANITIZE
  // 130 samples of 2^24 + 8 classes: 2.18e9 logits. All samples are the same one, so that one row of the textbook's
  // matrix is enough to compare with.
  CpuContext cpu(2);
  constexpr int64_t kClasses = (1 << 24) + 8, kSamples = 130, kNarrow = 4;
  constexpr int64_t kTarget = (1 << 24) + 5;
  HeadConfig config;
  config.scale = 8;
  auto head = drawn_head(cpu.context, config, kClasses, kNarrow);
  const Tensor centers = head_rows(*head, "centers");
  const std::vector<double> one = random_values(kNarrow, 5);
  std::vector<double> e;
  for (int64_t i = 0; i < kSamples; ++i) e.insert(e.end(), one.begin(), one.end());
  const std::vector<int64_t> labels(kSamples, kTarget);

  double norm = 0, sum = 0, target = 0;
  for (double v : one) norm += v * v;
  for (int64_t j = 0; j < kClasses; ++j) {
    const float* w = centers.data<float>() + j * kNarrow;
    double dot = 0, length = 0;
    for (int64_t d = 0; d < kNarrow; ++d) {
      dot += w[d] * one[static_cast<size_t>(d)];
      length += double{w[d]} * w[d];
    }
    const double cosine = dot / std::sqrt(norm * length);
    if (j == kTarget) {
      target = config.scale * std::cos(std::acos(cosine) + 0.5);
    } else {
      sum += std::exp(config.scale * cosine);
    }
  }
  REQUIRE(std::acos(target / config.scale) > 0);  // no continuation beyond pi is needed here
  const double expected = std::log(sum + std::exp(target)) - target;

  begin_head(cpu.context, *head, {labels}, {.step = 0, .global_batch = kSamples}, {.momentum = 0.9F});
  const HeadResult result = head->run(cpu.context, to_tensor(e, {kSamples, kNarrow}));
  head->end_step(cpu.context);
  CHECK(totals_of(cpu.context, result).loss_sum / kSamples == Approx(expected).epsilon(1e-5));
  CHECK(result.active == kClasses);
  // Only the target's row is pulled towards the samples, so that its gradient stands out.
  const Tensor gradient = head_rows(*head, "momentum");
  const auto length_of = [&](int64_t j) {
    double s = 0;
    for (int64_t d = 0; d < kNarrow; ++d) s += std::pow(gradient.data<float>()[j * kNarrow + d], 2);
    return std::sqrt(s);
  };
  CHECK(length_of(kTarget) > 1e3 * length_of(kTarget - 1));
  CHECK(length_of(kTarget) > 1e3 * length_of(5));
#endif
}

}  // namespace
}  // namespace plsc::test
