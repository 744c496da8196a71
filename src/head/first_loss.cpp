#include "head/first_loss.h"

#include <algorithm>
#include <cmath>

#include "kernels/math/normal.h"

namespace plsc {
namespace {

constexpr int64_t kManyClasses = 20'000;   // from here on the closed form is good to a part in a thousand
constexpr double kDraws = 2e6;             // normal numbers in all
constexpr int64_t kMostClasses = 500'000;  // of a drawn sample

/// The loss of one sample whose first cosine is the target's.
double drawn_loss(const FirstLossArgs& a, double deviation, uint64_t sample) {
  math::SampleSums sums{.shift = a.rule.scale};  // relative to the largest possible logit
  for (int64_t block = 0; block < a.classes; block += 4) {
    const auto bits = math::random4(0, math::Draw::first_loss, sample, static_cast<uint64_t>(block / 4));
    const math::Normal4 normal = math::normal4(bits);
    for (int64_t j = block; j < std::min(block + 4, a.classes); ++j) {
      const double cosine = std::clamp(deviation * normal.x[j - block], -1.0, 1.0);
      if (j == 0) {
        sums.target_cosine = cosine;
      } else {
        sums.sum += std::exp(a.rule.scale * (cosine - 1));
      }
    }
  }
  return math::sample_loss(a.rule, sums, 1).loss;
}

}  // namespace

double expected_first_loss(const FirstLossArgs& args) {
  const auto classes = static_cast<double>(std::max<int64_t>(args.classes, 1));
  const double deviation = 1 / std::sqrt(static_cast<double>(args.columns)), spread = args.rule.scale * deviation;
  const bool many = args.classes >= kManyClasses && spread < 0.7 * std::sqrt(2 * std::log(classes));
  if (many || args.classes > kMostClasses) {
    return math::sample_loss(args.rule, {1, std::log(classes) + spread * spread / 2, 0}, 1).loss;
  }
  const auto samples = static_cast<uint64_t>(std::clamp(kDraws / classes, 4.0, 2000.0));
  double sum = 0;
  for (uint64_t s = 0; s < samples; ++s) sum += drawn_loss(args, deviation, s);
  return sum / static_cast<double>(samples);
}

}  // namespace plsc
