// Positives always; the rest of the classes by their key, so that about ratio * classes take part.
#include "head/class_sampler.h"

#include <algorithm>
#include <utility>

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

void add_own_rows(const ClassShard& shard, const std::vector<int64_t>& classes, std::vector<int64_t>& rows) {
  for (const int64_t c : classes) {
    if (c >= shard.begin && c < shard.end) rows.push_back(c - shard.begin);
  }
}

Sampling start_rest(Context& context, const ClassShard& shard, UniformRest rest) {
  SampleRows sample;
  sample.seed = context.seed;
  sample.step = rest.step;
  sample.first_class = shard.begin;
  sample.classes = shard.size();
  const double left = static_cast<double>(shard.total) - rest.taken;
  if (left > 0) sample.threshold = std::max(0.0, (rest.wanted - rest.taken) / left);
  std::ranges::sort(rest.rows);
  sample.positives = Tensor::from(rest.rows, {static_cast<int64_t>(rest.rows.size())});
  return {context.backend.head->start_sample(sample)};
}

Sampling start_sampling(Context& context, const SamplingConfig& config, const ClassShard& shard, int64_t step,
                        const std::vector<int64_t>& labels) {
  if (config.method == "full") return {};
  const std::vector<int64_t> positives = distinct_labels(labels);
  UniformRest rest;
  rest.step = step;
  rest.wanted = active_part(config, shard.total) * static_cast<double>(shard.total);
  rest.taken = static_cast<double>(positives.size());
  add_own_rows(shard, positives, rest.rows);
  return start_rest(context, shard, std::move(rest));
}

ActiveClasses active_classes(const Sampling& sampling, int64_t rows) {
  if (sampling.rows == nullptr) return {{}, rows};
  const Tensor sampled = sampling.rows->get();
  return {sampled, sampled.dim(0)};
}

}  // namespace plsc
