#include "backend/neighbour_ops.h"

#include "base/error.h"

namespace plsc {

void check_search(const NeighbourSearchSpec& spec) {
  PLSC_CHECK(spec.candidates >= 1 && spec.candidates <= NeighbourOps::kMostCandidates, "{} candidates, at most {}",
             spec.candidates, NeighbourOps::kMostCandidates);
}

void check_block(const NeighbourSearchSpec& spec, const NeighbourBlock& block) {
  PLSC_CHECK(block.queries.dim(1) == spec.columns && block.keys.dim(1) == spec.columns && block.first_query >= 0 &&
                 block.first_query + block.queries.dim(0) <= spec.queries,
             "queries {} from {} and keys {} in a search of {} queries x {}", block.queries.shape().text(),
             block.first_query, block.keys.shape().text(), spec.queries, spec.columns);
}

}  // namespace plsc
