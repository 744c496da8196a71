// A search for nearest classes by all ranks together: each rank's own rows, and each rank's own queries. Blocks of unit
// rows go round the ranks in ascending order of their classes, the next one under way while all ranks work on this one;
// twice, as backend/neighbour_ops.h wants them. Every rank ends with the sorted candidates of its queries.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/row_source.h"
#include "head/shard.h"
#include "runtime/context.h"

namespace plsc {

struct ClassBlock {
  int owner = 0;  // rank
  int64_t first_class = 0, count = 0;
};
/// The classes of all ranks in blocks of at most `rows`, ascending.
std::vector<ClassBlock> class_blocks(int64_t classes, int ranks, int64_t rows);

/// Whether to leave off, asked now and then: all ranks ask together, and have the same answer.
using Interrupted = std::function<bool()>;

/// Lists that are copied or sent at a time, so that few of them are in memory twice.
inline constexpr int64_t kListBytes = 4 << 20;

struct NeighbourRounds {
  RowSource& keys;     // all rows of the shard
  RowSource& queries;  // of the shard's rows: no more than the largest shard has
  ClassShard shard;
  NeighbourSearchSpec search;  // `columns` and `queries` follow from the above
  int64_t most_rows = 0;       // of a block; 0: block_rows
  int64_t piece_rows = 0;      // of the queries that meet a block between two questions; 0: what takes about a second
  std::string what;            // for the progress line
  Interrupted interrupted;     // or none

  /// Rows of a block where nobody says otherwise: 32 MiB of fp32 in whole multiples of NeighbourOps::kKeyRows. Fewer
  /// where the largest shard has not as many.
  static int64_t block_rows(int64_t columns);
};

/// The search, done and sorted; null where it was interrupted. All ranks call it. Rank 0 shows
/// the progress of either round.
std::unique_ptr<NeighbourSearch> find_neighbours(Context& context, const NeighbourRounds& rounds);

/// use(first, lists) for the lists of a finished search, a few at a time: `lists` (n, k) i64 on the host are those of
/// queries [first, first + n).
void read_lists(Context& context, const NeighbourSearch& search,
                const std::function<void(int64_t first, const Tensor& lists)>& use);

}  // namespace plsc
