// Labels beyond 2^24, which fp32 cannot count, and products beyond 32 bits.
#include <cmath>

#include "support/catch.h"
#include "support/head_cases.h"
#include "support/head_context.h"
#include "support/head_step.h"

namespace plsc::test {
namespace {

TEST_CASE("labels beyond 2^24 and more logits than 2^31") {
#ifndef PLSC_SANITIZE
  // 130 samples of 2^24 + 8 classes: 2.18e9 logits. All samples are the same one, so that one row of the textbook's
  // matrix is enough to compare with.
  HeadContext rank(2);
  constexpr int64_t kClasses = (1 << 24) + 8, kSamples = 130, kNarrow = 4;
  constexpr int64_t kTarget = (1 << 24) + 5;
  HeadConfig config;
  config.scale = 8;
  auto head = drawn_head(rank.context, config, kClasses, kNarrow);
  const std::vector<double> centers = to_doubles(rank.context, head_rows(*head, "centers"));
  const std::vector<double> one = random_values(kNarrow, 5);
  std::vector<double> e;
  for (int64_t i = 0; i < kSamples; ++i) e.insert(e.end(), one.begin(), one.end());
  const std::vector<int64_t> labels(kSamples, kTarget);

  double norm = 0, sum = 0, target = 0;
  for (double v : one) norm += v * v;
  for (int64_t j = 0; j < kClasses; ++j) {
    const double* w = centers.data() + j * kNarrow;
    double dot = 0, length = 0;
    for (int64_t d = 0; d < kNarrow; ++d) {
      dot += w[d] * one[static_cast<size_t>(d)];
      length += w[d] * w[d];
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

  begin_head(rank.context, *head, {labels}, {.step = 0, .global_batch = kSamples}, {.momentum = 0.9F});
  const HeadResult result = head->run(rank.context, to_device_tensor(rank.context, e, {kSamples, kNarrow}));
  head->end_step(rank.context);
  CHECK(totals_of(rank.context, result).loss_sum / kSamples == Approx(expected).epsilon(1e-5));
  CHECK(result.active == kClasses);
  // Only the target's row is pulled towards the samples, so that its gradient stands out.
  const std::vector<double> gradient = to_doubles(rank.context, head_rows(*head, "momentum"));
  const auto length_of = [&](int64_t j) {
    double s = 0;
    for (int64_t d = 0; d < kNarrow; ++d) s += std::pow(gradient[static_cast<size_t>(j * kNarrow + d)], 2);
    return std::sqrt(s);
  };
  CHECK(length_of(kTarget) > 1e3 * length_of(kTarget - 1));
  CHECK(length_of(kTarget) > 1e3 * length_of(5));
#endif
}

}  // namespace
}  // namespace plsc::test
