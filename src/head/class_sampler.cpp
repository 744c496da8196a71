// Positives always; the rest of the classes by their key, so that about ratio * classes take part.
#include "head/class_sampler.h"

#include <algorithm>

namespace plsc {

std::vector<int64_t> distinct_labels(const std::vector<int64_t>& labels) {
  std::vector<int64_t> distinct;
  for (int64_t label : labels) {
    if (label >= 0) distinct.push_back(label);
  }
  std::ranges::sort(distinct);
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  return distinct;
}

double active_part(const SamplingConfig& config, int64_t classes) {
  if (config.method == "full") return 1;
  if (config.active == 0) return config.ratio;
  return std::min(1.0, static_cast<double>(config.active) / static_cast<double>(classes));
}

Sampling start_sampling(Context& context, const SamplingConfig& config, const ClassShard& shard, int64_t step,
                        const std::vector<int64_t>& labels) {
  if (config.method == "full") return {};
  const std::vector<int64_t> positives = distinct_labels(labels);
  const double part = active_part(config, shard.total);

  SampleRows sample;
  sample.seed = context.seed;
  sample.step = step;
  sample.first_class = shard.begin;
  sample.classes = shard.size();
  const auto classes = static_cast<double>(shard.total), taken = static_cast<double>(positives.size());
  if (taken < classes) sample.threshold = std::max(0.0, (part * classes - taken) / (classes - taken));
  std::vector<int64_t> local;
  for (int64_t c : positives) {
    if (c >= shard.begin && c < shard.end) local.push_back(c - shard.begin);
  }
  sample.positives = Tensor::from(local, {static_cast<int64_t>(local.size())});

  return {context.backend.head->start_sample(sample)};
}

ActiveClasses active_classes(const Sampling& sampling, int64_t rows) {
  if (sampling.rows == nullptr) return {{}, rows};
  const Tensor sampled = sampling.rows->get();
  return {sampled, sampled.dim(0)};
}

}  // namespace plsc
