// What a training would take and how fast it would go, before it runs: arithmetic on a dry run, on what memory there
// is, and on rates. Nothing is measured here.
#pragma once
#include <algorithm>
#include <optional>

#include "app/plan/dry_run.h"
#include "app/plan/wire.h"

namespace plsc::plan {

/// Bytes that there are to take; none: not known, and nothing is judged.
struct Room {
  std::optional<double> device;  // of a rank's GPU
  std::optional<double> host;    // of a host, which on a CPU holds everything
  int ranks_per_host = 1;        // that share it at most

  /// How many of so many ranks share a host.
  int sharing(int ranks) const { return std::min(ranks, ranks_per_host); }
};
/// That of ranks which run already: what their host has left, and what they have taken, which their plans count as
/// well. `program`: bytes of one (Setup::program).
Room room_beside(std::optional<double> left_of_host, int64_t program, int ranks_of_host);
/// Of bytes that are free, what is still free a moment later, mostly: rounded down by a 64th at most, so that two plans
/// in a row agree.
double steady_part(int64_t bytes);

/// Per second, each for one rank; 0: not known.
struct Rates {
  double fp32 = 0, half = 0;  // FLOP of matrix products; half: bf16 and fp16
  double memory = 0;          // bytes that are read and written
  double link = 0;            // bytes that a rank sends: to any other, or where `network` is known to those of its host
  double host = 0;            // bytes between a GPU and its host's memory
  bool fp32_assumed = false;  // of `half`, which alone was given
  double network = 0;         // bytes that a host sends to others, for all of its ranks together
  bool latencies = false;     // collectives take NCCL's (wire.h) besides
  bool link_of_host = false;  // `link` says nothing of other hosts: they are reached by `network` alone
  bool compute_known(bool in_half) const { return memory > 0 && fp32 > 0 && (half > 0 || !in_half); }
};

inline bool is_half(Dtype type) { return type == Dtype::bf16 || type == Dtype::f16; }

struct PhasePlan {
  std::string name;
  double flop = 0, bytes = 0, wire = 0;  // of one rank
  int64_t messages = 0;                  // of a step, where each rank sends to every other itself, as over MPI
  double far = 0;                        // bytes between a GPU and its host's memory, beside `bytes`
  std::optional<double> seconds;         // where all rates that it needs are known
  std::optional<double> exposed;         // of these, in which nothing is computed: collectives are waited for
};

struct Plan {
  Setup setup;
  Room room;
  Rates rates;
  DryRun run;
  std::vector<PhasePlan> phases;
  std::optional<double> step_seconds;
  std::optional<double> exposed_seconds;  // of these, of all phases
  std::optional<PhasePlan> graph;         // building the class graph once, beside the steps

  bool on_gpu() const { return setup.device == DeviceKind::cuda; }
  /// What a rank takes of its GPU (0 on a CPU), and of its host.
  double device_bytes() const { return on_gpu() ? run.device_bytes() : 0; }
  double host_bytes() const { return run.host_bytes() + (on_gpu() ? 0 : run.device_bytes()); }
  /// A rank's share of its host's memory.
  std::optional<double> host_room() const;
  /// Of all ranks together, where the time of a step is known.
  std::optional<double> images_per_second() const;
  bool fits() const;
};

Cluster cluster_of(const Plan& plan);

Plan make_plan(const Setup& setup, const Room& room, const Rates& rates);
/// The same of another number of classes, without times. Throws Error where there are more than most_classes.
Plan with_classes(const Plan& plan, int64_t classes);
/// Bytes of a checkpoint over all ranks: weights, moments and averages of the network, and every class's row with its
/// momentum and, where rows lag, its last update; its neighbours, where there is a class graph.
int64_t checkpoint_bytes(const Plan& plan);

/// The most classes that fit, over all ranks, up to most_classes; none where the room that class centres take of is not
/// known, 0 where not even the network fits.
std::optional<int64_t> largest_classes(const Plan& plan);
/// The same if every rank held all classes, as data-parallel training has it: weights, gradient and momentum of all of
/// them, and the logits of the rank's images with their gradient, in fp32. None where the two are not alike but for the
/// sharding: one rank shards nothing, sampled classes save what full ones cost, a class graph is in one of them alone,
/// and so are rows that are rounded or in another memory than the gradient.
std::optional<int64_t> largest_replicated(const Plan& plan);

/// The first thing to change where it does not fit: the first that a dry run shows to be enough. "" where it fits.
std::string advice(const Plan& plan);

/// "plan       1.2 GiB of 23.4 GiB a rank: class centres 400 MiB, ...": for the start of a training.
std::string headline(const Plan& plan);

}  // namespace plsc::plan
