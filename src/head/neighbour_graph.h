// The K-nearest-neighbour graph over all class centres: for each class the K others whose centres have the largest
// cosine with its own, exactly, ties by class id.
//
// All ranks build it together (neighbour_rounds.h). Each rank multiplies its own classes with the visiting blocks, and
// keeps a running list of the best K' = max(2 K, K + 32) of each class. A second round measures the candidates' cosines
// in fp32 in a fixed order, by which the lists are sorted and cut to K. So the scores' rounding, in fp32 or bf16,
// decides nothing unless more than K' - K classes lie within it, and the graph is the same on any number of ranks.
//
// Cost: 2 C^2 D FLOP over all ranks, and each block of centres twice over the wire.
// Memory: see graph_memory.
#pragma once
#include <cstdint>

#include "backend/neighbour_ops.h"
#include "backend/row_source.h"
#include "config/config.h"
#include "head/neighbour_rounds.h"
#include "head/shard.h"
#include "runtime/context.h"

namespace plsc {

struct GraphSpec {
  int64_t neighbours = 0;     // K: 1 to SamplingConfig::kMostNeighbours
  Dtype scores = Dtype::f32;  // of the products that find the candidates: f32 or bf16
  int64_t block_rows = 0;     // NeighbourRounds::most_rows
  int64_t piece_rows = 0;     // and piece_rows

  /// Classes of which there can be a graph, whose lists hold them in 32 bits.
  static constexpr int64_t kMostClasses = (int64_t{1} << 31) - 1;
  /// K'.
  constexpr int64_t candidates() const { return neighbours < 32 ? neighbours + 32 : 2 * neighbours; }
};
static_assert(GraphSpec{SamplingConfig::kMostNeighbours}.candidates() <= NeighbourOps::kMostCandidates);

/// The most bytes that building takes at a time on one rank, beside the centres; `device` is the host's on a CPU.
///   device: 12 bytes for each candidate of each class of the rank; four blocks of unit rows of at most 32 MiB (two
///           visiting, one of the rank's own, one in the products' type); tiles of scores.
///   host:   the graph, 4 bytes for each neighbour of each class of the rank, and 4 MiB on the way to it.
/// And what a rank keeps of the graph on the host: the lists of its classes, as checkpoints have them, 4 bytes an
/// entry; its part of all lists, 8 bytes an entry, as large as others' if neighbours are spread evenly over the ranks;
/// where each class's entries begin there, 8 bytes for each of all C classes and one more, whatever the number of
/// ranks; and the sampler's place of each of its rows, 4 bytes.
struct GraphMemory {
  int64_t device = 0, host = 0, kept = 0;
};
GraphMemory graph_memory(Context& context, const ClassShard& shard, int64_t columns, const GraphSpec& spec);

/// (shard.size(), K) i32 in host memory: each own class's neighbours, nearest first; -1 where there are no more.
/// `rows`: all rows of the shard, of at most kMostClasses classes. Undefined where it was interrupted. All ranks call
/// it. Rank 0 shows progress.
Tensor build_graph(Context& context, RowSource& rows, const ClassShard& shard, const GraphSpec& spec,
                   const Interrupted& interrupted = {});

/// What one rank keeps of the whole graph: for every class, the neighbours among its own rows, nearest first. Class c
/// has entries [offsets[c], offsets[c + 1]). In host memory.
struct OwnedNeighbours {
  Tensor offsets;  // (C + 1) i64
  Tensor rows;     // (n) i32: rows of the shard
  Tensor ranks;    // (n) i32: how near, among the class's K: 0 is the nearest
};
/// From what each rank has built to what each keeps. Takes 8 bytes an entry of this rank's and 8 for each of all
/// classes, and 4 MiB on the way. All ranks call it.
OwnedNeighbours share_graph(Context& context, const ClassShard& shard, const Tensor& graph);

}  // namespace plsc
