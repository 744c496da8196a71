// Evaluation: verification as InsightFace does it, and classification over the sharded head.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "data/source.h"
#include "head/margin_head.h"
#include "nn/module.h"

namespace plsc {

/// The numbers of one set, with the names that metrics.jsonl uses.
struct EvalResult {
  std::string set, kind;
  bool averaged = false;                           // of the average of the network's weights (eval.weights: ema)
  double accuracy = 0, accuracy_std = 0, auc = 0;  // verification
  double threshold = 0;                            // of the squared distance, mean over the folds
  std::map<std::string, double> tar_at_far;        // "1e-3" -> TAR; only FARs that the set can resolve
  double top1 = 0, top5 = 0;                       // classification
  int64_t images = 0;
  double seconds = 0;
  std::vector<double> roc_far, roc_tar;  // the curve, on rank 0
  /// By name, for `best`: "accuracy", "auc", "top1", "tar_at_far.1e-3". Error when there is none.
  double metric(const std::string& name) const;
};

/// Scores a network on the sets of eval.sets. Every image is embedded once, however many pairs it is in; whole batches
/// are split over the ranks, so that the scores do not depend on how many there are.
class Evaluator {
 public:
  virtual ~Evaluator() = default;
  /// All sets, in order. All ranks call it.
  virtual std::vector<EvalResult> run(Context& context, Backbone& backbone, MarginHead* head) = 0;
  /// Error unless `set` is one of the sets, and its results will have `metric` (EvalResult::metric).
  virtual void require_metric(const std::string& set, const std::string& metric) const = 0;
};

/// Opens every set and decodes an image of it now, so that a missing file or a wrong size is an error at the start and
/// not after an epoch. All ranks call it.
/// `class_names`: names of the head's classes by id, for classification sets that are folders; empty: labels count.
std::unique_ptr<Evaluator> make_evaluator(Context& context, const EvalConfig& config, const DataConfig& data,
                                          const std::vector<std::string>& class_names = {});

/// Embeddings of this rank's share [begin, end) of `source`: (end - begin, D) fp32 on the host. flip_sum adds the
/// embedding of the mirrored image (InsightFace's verification); no normalisation here. All ranks call it, also with
/// an empty range. An image that cannot be read is an Error on every rank, naming it.
Tensor embed_range(Context& context, Backbone& backbone, const DataSource& source, const DataConfig& data,
                   int64_t begin, int64_t end, int64_t batch_size, bool flip_sum);

/// Draws the ROC curves of the verification sets (log-scale FAR) to a PNG; without any set it draws nothing.
void draw_roc(const std::string& path, const std::vector<EvalResult>& results);

}  // namespace plsc
