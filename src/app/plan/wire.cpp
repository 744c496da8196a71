#include "app/plan/wire.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace plsc::plan {
namespace {

/// One of NCCL's ways to run a collective, seconds for the whole and for each step from rank to rank.
struct Way {
  bool tree;
  double words;  // that are sent for each word of data: LL sends a flag with each
  double start, within, between;
};
constexpr std::array<Way, 3> kWays{{{false, 2, 6.6e-6, 0.6e-6, 2.7e-6},   // ring, LL
                                    {false, 1, 8.4e-6, 3.4e-6, 14e-6},    // ring, Simple
                                    {true, 2, 6.8e-6, 0.6e-6, 5.0e-6}}};  // tree, LL

double latency(const Way& way, const DryTransfer& transfer, const Cluster& cluster) {
  const int ranks = cluster.ranks, hosts = cluster.hosts();
  if (way.tree) {
    const double down = (std::min(ranks, cluster.ranks_per_host) - 1) * way.within + std::log2(hosts) * way.between;
    return way.start + transfer.passes * down;
  }
  const int steps = transfer.passes * (ranks - 1);
  const int far = hosts == 1 ? 0 : transfer.passes == 1 ? hosts - 1 : transfer.passes * hosts;
  return way.start + (steps - far) * way.within + far * way.between;
}

}  // namespace

bool Cluster::known() const {
  if (ranks == 1) return true;
  if (hosts() > 1 && network > 0) return ranks_per_host == 1 || link > 0;
  return link > 0 && !lacks_network();
}

bool Cluster::lacks_network() const { return hosts() > 1 && network <= 0 && link_of_host; }

double seconds_of(const DryTransfer& transfer, const Cluster& all) {
  Cluster cluster = all;
  if (transfer.ranks > 0) cluster.ranks = transfer.ranks;
  if (cluster.ranks == 1) return 0;
  const int hosts = cluster.hosts();
  const double pass = transfer.bytes * transfer.passes;
  const bool shared = hosts > 1 && cluster.network > 0;
  double wire = 0;
  if (!shared || cluster.ranks_per_host > 1) wire = pass * (cluster.ranks - 1) / cluster.ranks / cluster.link;
  if (shared) wire = std::max(wire, pass * (hosts - 1) / hosts / cluster.network);
  if (!cluster.latencies) return wire;
  double least = INFINITY;
  for (const Way& way : kWays) {
    if (way.tree && transfer.passes == 1) continue;  // NCCL has trees for all-reduces alone
    least = std::min(least, latency(way, transfer, cluster) + way.words * wire);
  }
  return least;
}

}  // namespace plsc::plan
