// InsightFace's folds, and the ROC from sorted distances.
#include "eval/verification.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/threads.h"

namespace plsc {
namespace {

constexpr int64_t kFolds = 10;
constexpr size_t kThresholds = 400;
double threshold_at(size_t i) { return 0.01 * static_cast<double>(i); }  // numpy's arange(0, 4, .01)

/// Right decisions at each threshold.
using Correct = std::array<int64_t, kThresholds>;

// Pairs [begin, end): a pair is accepted from the first threshold above its distance on.
Correct count_correct(std::span<const double> distances, std::span<const PairList::Pair> pairs) {
  std::array<int64_t, kThresholds + 1> same{}, different{};  // by first accepting threshold; the last: never
  for (size_t i = 0; i < distances.size(); ++i) {
    size_t first = 0;
    if (distances[i] >= 0) {  // a guess, then exact steps: the comparison below is the definition
      first = static_cast<size_t>(std::min(distances[i] / 0.01, static_cast<double>(kThresholds)));
      while (first > 0 && distances[i] < threshold_at(first - 1)) --first;
      while (first < kThresholds && !(distances[i] < threshold_at(first))) ++first;
    }
    ++(pairs[i].same ? same : different)[first];
  }
  Correct correct{};
  int64_t accepted_same = 0, rejected_different = 0;
  for (int64_t d : different) rejected_different += d;
  for (size_t t = 0; t < kThresholds; ++t) {
    accepted_same += same[t];
    rejected_different -= different[t];
    correct[t] = accepted_same + rejected_different;
  }
  return correct;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

void score_folds(std::span<const double> distances, std::span<const PairList::Pair> pairs, VerificationScores& scores) {
  const auto n = static_cast<int64_t>(distances.size());
  const int64_t folds = std::min(kFolds, n);
  std::vector<Correct> fold_correct;
  Correct all{};
  for (int64_t f = 0; f < folds; ++f) {
    const auto begin = static_cast<size_t>(range_begin(n, folds, f));
    const auto count = static_cast<size_t>(range_begin(n, folds, f + 1)) - begin;
    fold_correct.push_back(count_correct(distances.subspan(begin, count), pairs.subspan(begin, count)));
    for (size_t t = 0; t < kThresholds; ++t) all[t] += fold_correct.back()[t];
  }
  std::vector<double> accuracies, thresholds;
  for (int64_t f = 0; f < folds; ++f) {
    const Correct& test = fold_correct[static_cast<size_t>(f)];
    Correct train = all;
    if (folds > 1)
      for (size_t t = 0; t < kThresholds; ++t) train[t] -= test[t];
    const auto best = static_cast<size_t>(std::max_element(train.begin(), train.end()) - train.begin());
    const int64_t count = range_begin(n, folds, f + 1) - range_begin(n, folds, f);
    accuracies.push_back(static_cast<double>(test[best]) / static_cast<double>(count));
    thresholds.push_back(threshold_at(best));
  }
  scores.threshold = mean(thresholds);
  scores.accuracy = mean(accuracies);
  for (double& a : accuracies) a = (a - scores.accuracy) * (a - scores.accuracy);
  scores.accuracy_std = std::sqrt(mean(accuracies));
}

/// Distances of one kind, sorted.
std::vector<double> sorted(std::span<const double> distances, std::span<const PairList::Pair> pairs, bool same) {
  std::vector<double> out;
  for (size_t i = 0; i < distances.size(); ++i)
    if (pairs[i].same == same) out.push_back(distances[i]);
  std::sort(out.begin(), out.end());
  return out;
}

double share_below(const std::vector<double>& values, double threshold) {
  const auto count = std::lower_bound(values.begin(), values.end(), threshold) - values.begin();
  return static_cast<double>(count) / static_cast<double>(values.size());
}

// The chance that a positive is nearer than a negative.
double area(const std::vector<double>& positives, const std::vector<double>& negatives) {
  double sum = 0;
  for (double d : positives) {
    const auto [low, high] = std::equal_range(negatives.begin(), negatives.end(), d);
    sum += static_cast<double>(negatives.end() - high) + 0.5 * static_cast<double>(high - low);
  }
  return sum / (static_cast<double>(positives.size()) * static_cast<double>(negatives.size()));
}

/// Negatives that a false accept rate of 10^-exponent accepts.
size_t accepted_at(int exponent, size_t negatives) {
  const double allowed = std::pow(10.0, -exponent) * static_cast<double>(negatives);
  return static_cast<size_t>(std::floor(allowed + 1e-9));  // 1e-3 * 3000 may be 2.9999999999999996
}

std::map<std::string, double> tars(const std::vector<double>& positives, const std::vector<double>& negatives) {
  std::map<std::string, double> out;
  int exponent = 0;
  for (const std::string& far : resolvable_fars(negatives.size())) {
    const size_t accepted = accepted_at(++exponent, negatives.size());
    const double threshold =
        accepted < negatives.size() ? negatives[accepted] : std::numeric_limits<double>::infinity();
    out[far] = share_below(positives, threshold);
  }
  return out;
}

// One point for each different negative distance, thinned to steps of half a percent of the FAR.
void curve(const std::vector<double>& positives, const std::vector<double>& negatives, VerificationScores& scores) {
  constexpr double kStep = 1.005;
  for (size_t i = 0; i < negatives.size(); ++i) {
    if (i > 0 && negatives[i] == negatives[i - 1]) continue;
    const double far = static_cast<double>(i) / static_cast<double>(negatives.size());
    if (!scores.roc_far.empty() && far < scores.roc_far.back() * kStep) continue;
    scores.roc_far.push_back(far);
    scores.roc_tar.push_back(share_below(positives, negatives[i]));
  }
  scores.roc_far.push_back(1);
  scores.roc_tar.push_back(1);
}

}  // namespace

std::vector<std::string> resolvable_fars(size_t negatives) {
  std::vector<std::string> fars;
  for (int exponent = 1; exponent <= 6 && accepted_at(exponent, negatives) > 0; ++exponent) {
    fars.push_back(fmt::format("1e-{}", exponent));
  }
  return fars;
}

std::vector<double> pair_distances(const Tensor& embeddings, std::span<const PairList::Pair> pairs) {
  const int64_t dim = embeddings.dim(1);
  const auto row = [&](int64_t i) { return embeddings.data<float>() + i * dim; };
  std::vector<double> scale;  // 1 / norm of each row
  for (int64_t i = 0; i < embeddings.dim(0); ++i) {
    double sum = 0;
    for (int64_t k = 0; k < dim; ++k) sum += static_cast<double>(row(i)[k]) * static_cast<double>(row(i)[k]);
    scale.push_back(sum > 0 ? 1 / std::sqrt(sum) : 1);
  }
  std::vector<double> distances;
  for (const PairList::Pair& p : pairs) {
    const float *a = row(p.a), *b = row(p.b);
    const double sa = scale[static_cast<size_t>(p.a)], sb = scale[static_cast<size_t>(p.b)];
    double sum = 0;
    for (int64_t k = 0; k < dim; ++k) {
      const double d = static_cast<double>(a[k]) * sa - static_cast<double>(b[k]) * sb;
      sum += d * d;
    }
    distances.push_back(sum);
  }
  return distances;
}

VerificationScores score_pairs(std::span<const double> distances, std::span<const PairList::Pair> pairs) {
  PLSC_CHECK(distances.size() == pairs.size());
  const std::vector<double> positives = sorted(distances, pairs, true), negatives = sorted(distances, pairs, false);
  if (positives.empty() || negatives.empty()) {
    fail("verification needs pairs of both kinds, found {} of the same class and {} of different ones",
         positives.size(), negatives.size());
  }
  VerificationScores scores;
  score_folds(distances, pairs, scores);
  scores.auc = area(positives, negatives);
  scores.tar_at_far = tars(positives, negatives);
  curve(positives, negatives, scores);
  return scores;
}

}  // namespace plsc
