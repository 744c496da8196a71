// The Evaluator: every set scored by all ranks together.
#include "eval/evaluator.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "eval/embed.h"
#include "eval/eval_set.h"
#include "eval/image_feed.h"
#include "eval/verification.h"

namespace plsc {
namespace {

constexpr int64_t kTop = 5;
constexpr std::string_view kTar = "tar_at_far.";

EvalResult start_result(const EvalSet& set) {
  EvalResult result;
  result.set = set.name;
  result.kind = set.kind;
  result.images = set.source->size();
  return result;
}

// A network that has diverged gives no scores: its distances are not numbers, and no threshold sorts them.
void require_finite(const EvalSet& set, const Tensor& embeddings) {
  const int64_t dim = embeddings.dim(1);
  for (int64_t i = 0; i < embeddings.elements(); ++i) {
    if (!std::isfinite(embeddings.data<float>()[i])) {
      fail_hint("the weights have diverged: lower schedule.base_lr, or evaluate an older checkpoint",
                "eval set '{}': the embedding of {} is not finite", set.name, set.source->name(i / dim));
    }
  }
}

EvalResult verify(Context& context, Backbone& backbone, const EvalSet& set, const EvalConfig& config) {
  EvalResult result = start_result(set);
  const Tensor embeddings =
      embed_all(context, backbone, {*set.source, set.data, config.batch_size, config.flip_sum, set.name});
  require_finite(set, embeddings);
  VerificationScores scores = score_pairs(pair_distances(embeddings, set.pairs), set.pairs);
  result.accuracy = scores.accuracy;
  result.accuracy_std = scores.accuracy_std;
  result.auc = scores.auc;
  result.threshold = scores.threshold;
  result.tar_at_far = std::move(scores.tar_at_far);
  if (context.rank() == 0) {
    result.roc_far = std::move(scores.roc_far);
    result.roc_tar = std::move(scores.roc_tar);
  }
  return result;
}

int64_t head_class(const EvalSet& set, int64_t image, int64_t classes) {
  int64_t label = set.source->label(image);
  if (!set.class_of.empty() && label >= 0) label = set.class_of.at(static_cast<size_t>(label));
  if (label < 0 || label >= classes) {
    fail("eval set '{}': {} has label {}, the head has {} classes", set.name, set.source->name(image), label, classes);
  }
  return label;
}

struct Hits {
  int64_t top1 = 0, top5 = 0;
};

void count_hits(const EvalSet& set, const MarginHead::Nearest& nearest, int64_t begin, int64_t classes, Hits& hits) {
  const int64_t k = nearest.classes.dim(1);
  for (int64_t i = 0; i < nearest.classes.dim(0); ++i) {
    const int64_t* ids = nearest.classes.data<int64_t>() + i * k;
    const int64_t label = head_class(set, begin + i, classes);
    const auto place = std::find(ids, ids + k, label) - ids;
    hits.top1 += place == 0 ? 1 : 0;
    hits.top5 += place < k ? 1 : 0;
  }
}

int64_t sum_over_ranks(Context& context, int64_t value) {
  int64_t sum = 0;
  for (int64_t v : gather_values(context.host, value)) sum += v;
  return sum;
}

EvalResult classify(Context& context, Backbone& backbone, MarginHead* head, const EvalSet& set, int64_t batch_size) {
  if (head == nullptr) {
    fail("eval set '{}' is of kind classification, which needs the class centres: there are none here", set.name);
  }
  EvalResult result = start_result(set);
  const int64_t classes = head->shard().total;
  Hits hits;
  std::string error;  // kept until the last round: all ranks make the same collective calls
  embed_in_rounds(context, backbone, {*set.source, set.data, batch_size, false, set.name},
                  [&](const Tensor& mine, int64_t begin) {
                    const auto nearest = head->nearest(context, mine, std::min(kTop, classes));
                    if (!error.empty()) return;
                    try {
                      count_hits(set, nearest, begin, classes, hits);
                    } catch (const std::exception& e) {
                      error = e.what();
                    }
                  });
  agree_or_fail(context.host, error);
  const auto images = static_cast<double>(std::max<int64_t>(1, result.images));
  result.top1 = static_cast<double>(sum_over_ranks(context, hits.top1)) / images;
  result.top5 = static_cast<double>(sum_over_ranks(context, hits.top5)) / images;
  return result;
}

std::vector<std::string> metrics_of(const EvalSet& set) {
  if (set.kind == "classification") return {"top1", "top5"};
  std::vector<std::string> names{"accuracy", "auc"};
  const auto negatives = std::count_if(set.pairs.begin(), set.pairs.end(), [](const auto& p) { return !p.same; });
  for (const std::string& far : resolvable_fars(static_cast<size_t>(negatives))) {
    names.push_back(std::string(kTar) + far);
  }
  return names;
}

/// Its size and channels may be wrong, and only an image tells.
void try_first_image(const EvalSet& set) {
  if (set.source->size() == 0) fail("eval set '{}', {}: no images", set.name, set.source->description());
  try {
    ImageFeed(*set.source, set.data, {0, 1, 1}, 1).next();
  } catch (const Error& e) {
    throw Error(fmt::format("eval set '{}': {}", set.name, e.what()));
  }
}

class SetEvaluator final : public Evaluator {
 public:
  SetEvaluator(std::vector<EvalSet> sets, const EvalConfig& config) : sets_(std::move(sets)), config_(config) {}

  std::vector<EvalResult> run(Context& context, Backbone& backbone, MarginHead* head) override {
    std::vector<EvalResult> results;
    for (const EvalSet& set : sets_) {
      const Stopwatch watch;
      results.push_back(set.kind == "classification" ? classify(context, backbone, head, set, config_.batch_size)
                                                     : verify(context, backbone, set, config_));
      results.back().seconds = watch.seconds();
    }
    return results;
  }

  void require_metric(const std::string& name, const std::string& metric) const override {
    const auto set = std::find_if(sets_.begin(), sets_.end(), [&](const EvalSet& s) { return s.name == name; });
    PLSC_CHECK(set != sets_.end(), "set {}", name);
    const std::vector<std::string> known = metrics_of(*set);
    if (std::find(known.begin(), known.end(), metric) == known.end()) {
      fail_hint("choose one of these as checkpoint.best.metric", "eval set '{}' will have no '{}'; it has {}", name,
                metric, fmt::join(known, ", "));
    }
  }

 private:
  std::vector<EvalSet> sets_;
  EvalConfig config_;
};

}  // namespace

double EvalResult::metric(const std::string& name) const {
  if (kind == "classification") return name == "top1" ? top1 : top5;
  if (name == "accuracy") return accuracy;
  if (name == "auc") return auc;
  const auto tar = tar_at_far.find(name.substr(std::min(name.size(), kTar.size())));
  PLSC_CHECK(tar != tar_at_far.end(), "eval set '{}' has no metric '{}'", set, name);
  return tar->second;
}

std::unique_ptr<Evaluator> make_evaluator(Context& context, const EvalConfig& config, const DataConfig& data,
                                          const std::vector<std::string>& class_names) {
  std::vector<EvalSet> sets;
  std::string error;
  try {
    for (const EvalSetConfig& set : config.sets) {
      sets.push_back(open_eval_set(set, data, class_names));
      try_first_image(sets.back());
    }
  } catch (const std::exception& e) {
    error = e.what();
  }
  agree_or_fail(context.host, error);
  for (const EvalSet& set : sets) {
    if (set.kind != "classification" || set.source->class_names().empty() || !class_names.empty()) continue;
    context.log.warn(
        "eval set '{}': the classes of the training data have no names, so a folder's place in the sorted list is "
        "taken "
        "for its class: right only where both have the same classes",
        set.name);
  }
  return std::make_unique<SetEvaluator>(std::move(sets), config);
}

}  // namespace plsc
