// Verification scores against a plain reading of their definitions, pair by pair and threshold by threshold.
#include "eval/verification.h"

#include <algorithm>
#include <cmath>
#include <random>

#include <fmt/format.h>

#include "base/error.h"
#include "support/catch.h"
#include "support/error_text.h"

using namespace plsc;
using namespace plsc::test;

namespace {

using Pairs = std::vector<PairList::Pair>;

struct Case {
  std::vector<double> distances;
  Pairs pairs;
};

// Distances on a grid of `levels` values when that is not 0: many ties, many exactly on a threshold.
Case random_case(int64_t n, int levels, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<double> noise(0, 0.5);
  Case c;
  for (int64_t i = 0; i < n; ++i) {
    const bool same = i < 2 ? i == 0 : rng() % 2 == 0;  // both kinds are there
    double d = std::clamp((same ? 1.0 : 2.0) + noise(rng), 0.0, 4.2);
    if (levels > 0) d = std::round(d * levels) / levels;
    c.pairs.push_back({2 * i, 2 * i + 1, same});
    c.distances.push_back(d);
  }
  return c;
}

double accuracy(const Case& c, const std::vector<int64_t>& members, double threshold) {
  double right = 0;
  for (int64_t i : members) {
    const auto k = static_cast<size_t>(i);
    right += (c.distances[k] < threshold) == c.pairs[k].same ? 1 : 0;
  }
  return right / static_cast<double>(members.size());
}

VerificationScores plain_scores(const Case& c) {
  const auto n = static_cast<int64_t>(c.pairs.size());
  const int64_t folds = std::min<int64_t>(10, n);
  VerificationScores s;
  std::vector<double> accuracies;
  for (int64_t f = 0, begin = 0; f < folds; ++f) {
    const int64_t size = n / folds + (f < n % folds ? 1 : 0);
    std::vector<int64_t> test, train;
    for (int64_t i = 0; i < n; ++i) (i >= begin && i < begin + size ? test : train).push_back(i);
    begin += size;
    double best = -1, chosen = 0;
    for (int t = 0; t < 400; ++t) {
      const double a = accuracy(c, train, 0.01 * t);
      if (a > best) {
        best = a;
        chosen = 0.01 * t;
      }
    }
    accuracies.push_back(accuracy(c, test, chosen));
    s.threshold += chosen / static_cast<double>(folds);
  }
  for (double a : accuracies) s.accuracy += a / static_cast<double>(folds);
  double variance = 0;
  for (double a : accuracies) variance += std::pow(a - s.accuracy, 2) / static_cast<double>(folds);
  s.accuracy_std = std::sqrt(variance);
  return s;
}

struct Rates {
  double far, tar;
};
Rates rates_at(const Case& c, double threshold) {
  double fa = 0, ta = 0, negatives = 0, positives = 0;
  for (size_t i = 0; i < c.pairs.size(); ++i) {
    (c.pairs[i].same ? positives : negatives) += 1;
    if (c.distances[i] < threshold) (c.pairs[i].same ? ta : fa) += 1;
  }
  return {fa / negatives, ta / positives};
}

double plain_auc(const Case& c) {
  double sum = 0, count = 0;
  for (size_t i = 0; i < c.pairs.size(); ++i) {
    for (size_t j = 0; j < c.pairs.size(); ++j) {
      if (!c.pairs[i].same || c.pairs[j].same) continue;
      sum += c.distances[i] < c.distances[j] ? 1 : c.distances[i] == c.distances[j] ? 0.5 : 0;
      count += 1;
    }
  }
  return sum / count;
}

// The best true accept rate among all thresholds whose false accept rate is allowed.
double plain_tar(const Case& c, double far) {
  double best = 0;
  std::vector<double> thresholds = c.distances;
  thresholds.push_back(INFINITY);
  for (double t : thresholds) {
    const Rates r = rates_at(c, t);
    if (r.far <= far * (1 + 1e-12)) best = std::max(best, r.tar);
  }
  return best;
}

}  // namespace

TEST_CASE("scores equal their definitions") {
  uint32_t seed = 1;
  for (int levels : {0, 100, 20}) {
    for (int64_t n : {int64_t{3}, int64_t{9}, int64_t{10}, int64_t{19}, int64_t{101}, int64_t{600}}) {
      const Case c = random_case(n, levels, seed++);
      INFO(n << " pairs, " << levels << " levels");
      const VerificationScores found = score_pairs(c.distances, c.pairs), expected = plain_scores(c);
      // Sums of at most ten quotients in another order: a few units of the last place.
      CHECK(found.accuracy == Approx(expected.accuracy).epsilon(1e-12));
      CHECK(found.accuracy_std == Approx(expected.accuracy_std).epsilon(1e-9).margin(1e-12));
      CHECK(found.threshold == Approx(expected.threshold).epsilon(1e-12));
      CHECK(found.auc == Approx(plain_auc(c)).epsilon(1e-12));
      int64_t negatives = 0;
      for (const auto& p : c.pairs) negatives += p.same ? 0 : 1;
      for (int e = 1; e <= 6; ++e) {
        const double far = std::pow(10.0, -e);
        const auto it = found.tar_at_far.find(fmt::format("1e-{}", e));
        REQUIRE((it != found.tar_at_far.end()) == (static_cast<double>(negatives) * far >= 1 - 1e-9));
        if (it != found.tar_at_far.end()) CHECK(it->second == Approx(plain_tar(c, far)).epsilon(1e-12));
      }
    }
  }
}

TEST_CASE("the curve rises from FAR 0 to (1, 1) along real operating points") {
  const Case c = random_case(500, 0, 77);
  const VerificationScores s = score_pairs(c.distances, c.pairs);
  REQUIRE(s.roc_far.size() == s.roc_tar.size());
  CHECK(s.roc_far.front() == 0);
  CHECK(s.roc_far.back() == 1);
  CHECK(s.roc_tar.back() == 1);
  for (size_t i = 1; i < s.roc_far.size(); ++i) {
    CHECK(s.roc_far[i] > s.roc_far[i - 1]);
    CHECK(s.roc_tar[i] >= s.roc_tar[i - 1]);
  }
  for (size_t i = 0; i < s.roc_far.size(); i += 7) CHECK(s.roc_tar[i] == Approx(plain_tar(c, s.roc_far[i])));
}

TEST_CASE("distances are between normalised rows, in double precision") {
  std::mt19937 rng(5);
  std::normal_distribution<float> noise;
  const int64_t dim = 33;
  std::vector<float> values(6 * dim);
  for (float& v : values) v = 100 * noise(rng);
  std::fill(values.begin() + 5 * dim, values.end(), 0.0f);
  const Tensor rows = Tensor::from(values, Shape{6, dim});
  const Pairs pairs{{0, 1, true}, {2, 2, true}, {3, 5, false}, {4, 0, false}};
  const std::vector<double> found = pair_distances(rows, pairs);
  for (size_t p = 0; p < pairs.size(); ++p) {
    long double na = 0, nb = 0, dot = 0;
    for (int64_t k = 0; k < dim; ++k) {
      const long double a = values[static_cast<size_t>(pairs[p].a * dim + k)];
      const long double b = values[static_cast<size_t>(pairs[p].b * dim + k)];
      na += a * a;
      nb += b * b;
      dot += a * b;
    }
    const long double expected = nb == 0 ? 1.0L : 2 - 2 * dot / std::sqrt(na * nb);
    CHECK(found[p] == Approx(static_cast<double>(expected)).epsilon(1e-12).margin(1e-14));
  }
}

TEST_CASE("perfect, inverted and one-sided sets") {
  Case c;
  for (int64_t i = 0; i < 40; ++i) {
    c.pairs.push_back({0, 1, i % 2 == 0});
    c.distances.push_back(i % 2 == 0 ? 0.5 : 1.5);
  }
  VerificationScores s = score_pairs(c.distances, c.pairs);
  CHECK(s.accuracy == 1);
  CHECK(s.accuracy_std == 0);
  CHECK(s.auc == 1);
  CHECK(s.threshold == Approx(0.51));  // the first threshold above .5
  CHECK(s.tar_at_far.at("1e-1") == 1);
  CHECK(s.tar_at_far.count("1e-2") == 0);  // 20 negatives do not resolve one in a hundred
  for (double& d : c.distances) d = 2 - d;
  CHECK(score_pairs(c.distances, c.pairs).auc == 0);
  for (auto& p : c.pairs) p.same = true;
  CHECK(contains(error_text([&] { score_pairs(c.distances, c.pairs); }), "40 of the same class and 0"));
}
