// How long a collective takes: ranks of one host are joined by links of their own (NVLink, PCIe), hosts by a network
// that all ranks of a host share.
#pragma once
#include "backend/dry/tally.h"

namespace plsc::plan {

struct Cluster {
  int ranks = 1;
  int ranks_per_host = 1;
  double link = 0;            // bytes a second that a rank sends to others of its host; without `network` to any
  double network = 0;         // bytes a second that a host sends to others
  bool latencies = false;     // collectives take NCCL's besides
  bool link_of_host = false;  // `link` ends at the host, with `network` or without

  int hosts() const { return (ranks + ranks_per_host - 1) / ranks_per_host; }
  /// Whether all rates are known that a collective hangs on.
  bool known() const;
  /// Whether what lies between the hosts is needed for it, and neither a network's rate nor a link says it.
  bool lacks_network() const;
};

/// Of a collective that has the links to itself. Bandwidth: every rank sends (ranks - 1) / ranks of the tensor in each
/// pass, a host (hosts - 1) / hosts of it, which is the least that it can be (Patarasuk and Yuan 2009, of all-reduces),
/// and the slower of the two decides, as pieces of a tensor follow one another. Latency: the fastest of the ways that
/// NCCL has, by the model that it chooses by (src/graph/tuning.cc of NCCL 2.18: ring and tree, LL and Simple, NVLink).
double seconds_of(const DryTransfer& transfer, const Cluster& cluster);

}  // namespace plsc::plan
