// See neighbour_sampler.h.
#include "head/neighbour_sampler.h"

#include <algorithm>
#include <utility>

#include "kernels/math/rng.h"

namespace plsc {

NeighbourSampler::NeighbourSampler(const ClassShard& shard, OwnedNeighbours graph, int64_t neighbours)
    : shard_(shard),
      graph_(std::move(graph)),
      neighbours_(neighbours),
      near_(static_cast<size_t>(shard.size()), static_cast<int32_t>(neighbours)) {
  PLSC_CHECK(graph_.offsets.elements() == shard.total + 1, "a graph of {} classes for {}",
             graph_.offsets.elements() - 1, shard.total);
}

void NeighbourSampler::find_near(const std::vector<int64_t>& positives) {
  const int64_t* offsets = graph_.offsets.data<int64_t>();
  for (const int64_t label : positives) {
    for (int64_t e = offsets[label]; e < offsets[label + 1]; ++e) {
      const int64_t row = graph_.rows.data<int32_t>()[e];
      int32_t& near = near_[static_cast<size_t>(row)];
      if (near == neighbours_) touched_.push_back(row);
      near = std::min(near, graph_.ranks.data<int32_t>()[e]);
    }
  }
  // A positive takes part in any case, and takes nobody's place.
  std::erase_if(touched_, [&](int64_t row) {
    const bool positive = std::ranges::binary_search(positives, row + shard_.begin);
    if (positive) near_[static_cast<size_t>(row)] = static_cast<int32_t>(neighbours_);
    return positive;
  });
}

NeighbourSampler::Cut NeighbourSampler::cut(Context& context, double wanted) const {
  Tensor histogram(host_allocator(), {neighbours_}, Dtype::i64);
  std::ranges::fill(histogram.span<int64_t>(), 0);
  for (const int64_t row : touched_) ++histogram.data<int64_t>()[near_[static_cast<size_t>(row)]];
  context.host.all_reduce(histogram, ReduceOp::sum, "places of the neighbours");
  Cut cut;
  for (; cut.place < neighbours_; ++cut.place) {
    const auto here = static_cast<double>(histogram.data<int64_t>()[cut.place]);
    if (cut.taken + here > wanted) {
      cut.threshold = (wanted - cut.taken) / here;
      cut.taken = wanted;
      break;
    }
    cut.taken += here;
  }
  return cut;
}

std::vector<int64_t> NeighbourSampler::take_near(const Cut& cut, uint64_t seed, int64_t step) {
  std::vector<int64_t> rows;
  for (const int64_t row : touched_) {
    const int64_t place = std::exchange(near_[static_cast<size_t>(row)], static_cast<int32_t>(neighbours_));
    const uint64_t key = math::random64(seed, math::Draw::neighbour_tie, static_cast<uint64_t>(step),
                                        static_cast<uint64_t>(shard_.begin + row));
    if (place < cut.place || (place == cut.place && math::to_unit_double(key) < cut.threshold)) rows.push_back(row);
  }
  touched_.clear();
  return rows;
}

Sampling NeighbourSampler::start(Context& context, const NeighbourSampling& sampling, int64_t step,
                                 const std::vector<int64_t>& labels) {
  const std::vector<int64_t> positives = distinct_labels(labels);
  const auto positive = static_cast<double>(positives.size());
  UniformRest rest;
  rest.step = step;
  rest.wanted = sampling.ratio * static_cast<double>(shard_.total);
  find_near(positives);
  const Cut near = cut(context, std::max(0.0, rest.wanted * (1 - sampling.uniform_share) - positive));
  rest.taken = positive + near.taken;
  rest.rows = take_near(near, context.seed, step);
  add_own_rows(shard_, positives, rest.rows);
  return start_rest(context, shard_, std::move(rest));
}

}  // namespace plsc
