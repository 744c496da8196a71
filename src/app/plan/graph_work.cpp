#include "app/plan/graph_work.h"

#include <cmath>

#include "backend/dry/counting.h"
#include "head/neighbour_rounds.h"

namespace plsc::plan {

using counting::kValue, counting::number;

DryPhase graph_work(const GraphRows& rows) {
  const double own = number(rows.shard.size()), all = number(rows.shard.total) * number(rows.columns);
  // Each block of own rows meets all classes.
  const double blocks = std::ceil(own / number(NeighbourRounds::block_rows(rows.columns)));
  // All own rows are read for each block of any rank that comes by, and once to be sent.
  const double read = (rows.ranks * blocks + 1) * own * number(rows.columns);
  DryWork round;
  round.type = rows.scores;
  (rows.far ? round.far : round.bytes) = read * rows.element;
  // As fp32 they are written, read and written as unit rows, and read for the products.
  round.bytes += 4 * read * kValue + blocks * all * kValue;
  DryWork first = round;
  first.flop = 2 * own * all;
  DryPhase phase{"class graph", {first, round}, {}, 0};
  if (rows.ranks > 1) {
    phase.wire = 2 * (1 - 1 / number(rows.ranks)) * all * kValue;
    phase.transfers = {{all * kValue, 2, phase.wire}};
  }
  return phase;
}

}  // namespace plsc::plan
