// The scores of verification against NumPy's (generate_eval.py).
#include "eval/verification.h"

#include <fstream>
#include <map>

#include "support/catch.h"
#include "support/npy.h"
#include "support/source_dir.h"

using namespace plsc;
using namespace plsc::test;

namespace {

const std::string kData = test::source_dir() + "/tests/golden/eval/data/";

std::map<std::string, double> as_map(const VerificationScores& s) {
  std::map<std::string, double> m = s.tar_at_far;
  m["accuracy"] = s.accuracy;
  m["accuracy_std"] = s.accuracy_std;
  m["threshold"] = s.threshold;
  m["auc"] = s.auc;
  return m;
}

}  // namespace

TEST_CASE("the scores are those of InsightFace's procedure in NumPy") {
  const Tensor embeddings = read_npy(kData + "embeddings.npy");
  const std::vector<uint8_t> same = read_npy(kData + "same.npy").values<uint8_t>();
  std::map<int64_t, std::map<std::string, double>> expected;
  std::ifstream file(kData + "expected.txt");
  std::string name;
  double value = 0;
  for (int64_t n = 0; file >> n >> name >> value;) expected[n][name] = value;
  REQUIRE(expected.size() == 4);

  for (const auto& [n, numbers] : expected) {
    INFO(n << " pairs");
    std::vector<PairList::Pair> pairs;
    for (int64_t i = 0; i < n; ++i) pairs.push_back({2 * i, 2 * i + 1, same[static_cast<size_t>(i)] != 0});
    const auto found = as_map(score_pairs(pair_distances(embeddings, pairs), pairs));
    REQUIRE(found.size() == numbers.size());  // the same FARs are resolved
    for (const auto& [key, number] : numbers) {
      INFO(key);
      // Counts divided by counts on both sides: only the last digits of the means may differ.
      CHECK(found.at(key) == Approx(number).epsilon(1e-12));
    }
  }
}
