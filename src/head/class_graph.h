// The class graph of a run that samples by it (head.sampling.method knn), on one rank: as it was built or read from a
// checkpoint, with the steps at which that was, and the active classes that follow from it.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>

#include "config/config.h"
#include "head/graph_probe.h"
#include "head/neighbour_graph.h"
#include "head/neighbour_sampler.h"

namespace plsc {

/// Steps of the run that were done when the graph was built, and when a probe last found it good enough; kNever: none
/// has.
struct GraphAge {
  static constexpr int64_t kNever = -1;
  int64_t built = kNever, probed = kNever;
  bool operator==(const GraphAge&) const = default;
};

class ClassGraph {
 public:
  ClassGraph(const SamplingConfig& config, const ClassShard& shard);

  bool built() const { return sampler_ != nullptr; }
  GraphAge age() const { return age_; }
  GraphSpec spec() const;
  /// (shard.size(), K) i32, host memory: the neighbours of this rank's classes, nearest first, -1 behind the last;
  /// where there is no graph yet, a tensor of that size without values.
  Tensor lists() const;

  /// What became of a build.
  struct Built {
    bool done = false;           // false: it was interrupted, and all is as it was
    std::optional<double> kept;  // how much of the new graph was in the one before, if there was one
  };
  /// From `rows`, all of the shard as they are after `step` steps. All ranks call it.
  Built build(Context& context, RowSource& rows, int64_t step, const Interrupted& interrupted);
  /// The part of the nearest of the probe's classes that the graph has; nothing where it was interrupted. All ranks
  /// call it.
  std::optional<double> probe(Context& context, const ProbeRows& rows, const Interrupted& interrupted);
  /// A probe found it good enough after `step` steps.
  void passed(int64_t step) { age_.probed = step; }
  /// Lists as a checkpoint has them. Error on all ranks where a list holds what is no class. All ranks call it.
  void restore(Context& context, const Tensor& lists, const GraphAge& age);

  /// The active classes of a step; as start_sampling has it. There must be a graph.
  Sampling start(Context& context, int64_t step, const std::vector<int64_t>& labels);

 private:
  /// Takes lists in, and hands every rank its part of all lists.
  void take(Context& context, const Tensor& lists);

  SamplingConfig config_;
  ClassShard shard_;
  GraphAge age_;
  Tensor lists_;
  std::unique_ptr<NeighbourSampler> sampler_;
};

}  // namespace plsc
