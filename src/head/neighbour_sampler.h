// The active classes of a step from the class graph (neighbour_graph.h): those that the batch's labels are most easily
// taken for, and a uniform part, without which centres far from all labels would rest for ever.
//
// M = ratio C classes are wanted, of which P are positives. Then come classes by how near they are to a label of the
// batch (the least of their places in the labels' lists), at most M - P - uniform_share M: a histogram over all ranks
// says up to which place all of them take part; at the next place they do where their key is below what is left. The
// rest of M is drawn as the uniform sampler draws (class_sampler.h). As there, M is an expectation, and the set is a
// function of (graph, seed, step, labels), whatever the number of ranks.
#pragma once
#include <cstdint>
#include <vector>

#include "head/class_sampler.h"
#include "head/neighbour_graph.h"

namespace plsc {

struct NeighbourSampling {
  double ratio = 0.1;          // M / C
  double uniform_share = 0.1;  // of M, at the least
};

class NeighbourSampler {
 public:
  /// `graph`: of share_graph, lists of at most `neighbours` classes.
  NeighbourSampler(const ClassShard& shard, OwnedNeighbours graph, int64_t neighbours);
  /// As start_sampling: `labels` of all ranks and micro-batches, -1 for none. All ranks call it. Takes time in
  /// proportion to the labels' entries in the graph on this rank, on the host.
  Sampling start(Context& context, const NeighbourSampling& sampling, int64_t step, const std::vector<int64_t>& labels);

 private:
  /// Up to where neighbours take part: all at places before `place`; those at it whose key is below `threshold`.
  struct Cut {
    int64_t place = 0;
    double threshold = 0;
    double taken = 0;  // classes of all ranks, as expected
  };
  /// Fills near_ and touched_.
  void find_near(const std::vector<int64_t>& positives);
  Cut cut(Context& context, double wanted) const;
  /// Rows of this rank up to the cut. Empties near_ and touched_.
  std::vector<int64_t> take_near(const Cut& cut, uint64_t seed, int64_t step);

  ClassShard shard_;
  OwnedNeighbours graph_;
  int64_t neighbours_;
  std::vector<int32_t> near_;     // by row of the shard: the least place in a label's list; neighbours_: in none
  std::vector<int64_t> touched_;  // rows that are in some list
};

}  // namespace plsc
