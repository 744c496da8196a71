// The probes: each looks at one thing and writes what it finds into this rank's sheet. What is wrong is a finding, not
// an exception, but for those that say otherwise. Those of one rank are bounded by Patience; those of all ranks keep
// one sequence of collectives, whatever a rank has found.
#pragma once
#include <optional>
#include <string>

#include "app/build.h"
#include "app/doctor/patience.h"
#include "app/doctor/sheet.h"
#include "comm/world.h"
#include "config/config.h"

namespace plsc::doctor {

// This machine, by one rank.

/// The program, MPI, cores, load, memory and limits.
void probe_host(const World& world, RankSheet& sheet);
/// GPUs, driver and libraries. By the first rank of a host, before any rank uses a GPU: it starts contexts on all.
void probe_gpus(Patience& patience, const Config& config, RankSheet& sheet);
/// Copies and a matrix product on this rank's device.
void probe_rates(Session& session, RankSheet& sheet);

// Between ranks: all call them together.

/// Latency and bandwidth of an all-reduce by the collective that training uses. Throws what collectives throw.
void probe_all_reduce(Session& session, RankSheet& sheet);
/// Each host with each other, or with its neighbours where they are many. Throws what waits throw.
void probe_pairs(World& world, RankSheet& sheet);
/// The interfaces by which the hosts reach each other, as the kernel's tables have it; the first rank of each host
/// tells. Before anything is sent, so that its warnings are known where that hangs. `nccl`: it carries tensors.
void probe_network(World& world, bool nccl, RankSheet& sheet);
/// After messages have gone between the hosts: takes back what was feared and has not come true.
void forget_feared(RankSheet& sheet);
/// Clocks that are apart.
void probe_clocks(World& world, RankSheet& sheet);

// What a configuration asks for.

/// Whether the first rank of this host sees the folder that rank 0 sees, how much room there is, how fast it is.
struct DiskWork {
  std::string output;            // folder; it need not be there yet
  int64_t checkpoint_bytes = 0;  // of one checkpoint over all ranks; 0: not known
  int64_t keep = 0;              // checkpoints
};
void probe_disk(World& world, Patience& patience, const DiskWork& work, RankSheet& sheet);

/// What the training data are, where they could be opened.
struct DataFound {
  int64_t samples = 0, classes = 0;
};
/// Opens and reads data.train and eval.sets, by the first rank of each host.
std::optional<DataFound> probe_data(Patience& patience, const Config& config, int ranks, RankSheet& sheet);

/// Whether the class centres fit this rank's device beside the network. `classes`: of the data; 0: not known. All
/// ranks together. Returns the bytes of a checkpoint over all ranks; 0 where they are not known.
int64_t probe_fit(Session& session, World& world, const Config& config, int64_t classes, RankSheet& sheet);

}  // namespace plsc::doctor
