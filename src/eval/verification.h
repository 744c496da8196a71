// Scores of verification: are two images of the same class? The procedure is InsightFace's (verification.py): squared
// distance of normalised embeddings, ten contiguous folds, the threshold of each chosen on the other nine.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "data/pairs.h"
#include "tensor/tensor.h"

namespace plsc {

struct VerificationScores {
  double accuracy = 0, accuracy_std = 0;  // mean and standard deviation (population) over the folds
  double threshold = 0;                   // mean over the folds, of the squared distance
  double auc = 0;                         // area under the exact ROC; ties count half
  std::map<std::string, double> tar_at_far;
  std::vector<double> roc_far, roc_tar;  // rising; the first point has FAR 0, the last is (1, 1)
};

/// The false accept rates, rising in fineness ("1e-1", "1e-2", ... "1e-6"), that so many pairs of different classes can
/// resolve: one of them at least is accepted.
std::vector<std::string> resolvable_fars(size_t negatives);

/// The squared distance of each pair's L2-normalised rows of `embeddings` (N, D), in double precision. A row of zeros
/// stays zero, as in scikit-learn's normalize.
std::vector<double> pair_distances(const Tensor& embeddings, std::span<const PairList::Pair> pairs);

/// Thresholds 0, .01, ... 3.99; a pair is accepted when its distance is below; the first of equally good thresholds
/// wins. Fewer than ten pairs: as many folds as pairs; one pair is its own training fold. Needs pairs of both kinds.
/// TAR at FAR f: the largest threshold that accepts at most floor(f N) of the N negatives; only f with f N >= 1.
VerificationScores score_pairs(std::span<const double> distances, std::span<const PairList::Pair> pairs);

}  // namespace plsc
