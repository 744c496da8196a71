// The parts of the dry backend, as its factory puts them together. Memory and tally outlive them.
#pragma once
#include <memory>

#include "backend/dry/dry_backend.h"

namespace plsc {

std::unique_ptr<NnOps> make_dry_nn_ops(DryDevice& device, OpMemory& memory, DryTally& tally);
std::unique_ptr<HeadOps> make_dry_head_ops(DryDevice& device, OpMemory& memory, DryTally& tally,
                                           std::function<int64_t(const SampleRows&)> active_rows);
/// Memory alone: what a search computes depends on no more than its sizes, and nobody goes through it block by block.
std::unique_ptr<NeighbourOps> make_dry_neighbour_ops(DryDevice& device, OpMemory& memory);

}  // namespace plsc
