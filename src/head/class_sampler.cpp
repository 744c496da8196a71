// Positives always; the rest of the classes by their key, so that about ratio * classes take part.
#include "head/class_sampler.h"

#include <algorithm>

namespace plsc {

int64_t ActiveClasses::place(int64_t row) const {
  if (!rows.defined()) return row;
  const auto found = std::ranges::lower_bound(host_rows, row);
  PLSC_CHECK(found != host_rows.end() && *found == row, "row {} is the target of a sample but not active", row);
  return found - host_rows.begin();
}

ActiveClasses sample_classes(Context& context, const SamplingConfig& config, const ClassShard& shard, int64_t step,
                             const std::vector<int64_t>& labels) {
  ActiveClasses active;
  if (config.method == "full") {
    active.local = shard.size();
    return active;
  }
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

  active.rows = context.backend.head->sample_rows(sample);
  Tensor host(host_allocator(), active.rows.shape(), Dtype::i64);
  context.device().copy(active.rows, host);
  active.host_rows = host.values<int64_t>();
  active.local = active.rows.dim(0);
  return active;
}

}  // namespace plsc
