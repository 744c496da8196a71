// Positives always; the rest of the classes by their key, so that about ratio * classes take part.
#include "head/class_sampler.h"

#include <algorithm>

namespace plsc {

Sampling start_sampling(Context& context, const SamplingConfig& config, const ClassShard& shard, int64_t step,
                        const std::vector<int64_t>& labels) {
  if (config.method == "full") return {};
  std::vector<int64_t> positives;
  for (int64_t label : labels) {
    if (label >= 0) positives.push_back(label);
  }
  std::ranges::sort(positives);
  positives.erase(std::unique(positives.begin(), positives.end()), positives.end());

  SampleRows sample;
  sample.seed = context.seed;
  sample.step = step;
  sample.first_class = shard.begin;
  sample.classes = shard.size();
  const auto classes = static_cast<double>(shard.total), taken = static_cast<double>(positives.size());
  if (taken < classes) sample.threshold = std::max(0.0, (config.ratio * classes - taken) / (classes - taken));
  std::vector<int64_t> local;
  for (int64_t c : positives) {
    if (c >= shard.begin && c < shard.end) local.push_back(c - shard.begin);
  }
  sample.positives = Tensor::from(local, {static_cast<int64_t>(local.size())});

  return {context.backend.head->start_sample(sample)};
}

ActiveClasses active_classes(const Sampling& sampling, const ClassShard& shard) {
  if (sampling.rows == nullptr) return {{}, shard.size()};
  const Tensor rows = sampling.rows->get();
  return {rows, rows.dim(0)};
}

}  // namespace plsc
