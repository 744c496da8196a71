// What nodes keep of compressed gradients (optim/compressor.h), in a checkpoint: each node's momentum and what it has
// not sent, one behind the other, as tensors of (nodes x elements of a node) of which each rank writes its part.
#pragma once
#include "checkpoint/checkpoint.h"
#include "nn/module.h"

namespace plsc {

/// Adds them to `content`. How many nodes there are; 0: no gradient is compressed.
int64_t collect_compressed(const std::vector<Param*>& params, CheckpointContent& content);

/// Fills Param::momentum and unsent of the parameters that have a part, and the momentum of those that have none now
/// and had. On as many nodes as `stored_nodes` each goes on with its own, to the bit. On others all of them are added
/// up and every node takes the same share, so that in the sum over the nodes nothing is lost; a momentum of gradients
/// that were sent whole is shared out likewise. What was not sent is left, with a warning, where gradients are sent
/// whole now.
void restore_compressed(Context& context, const CheckpointReader& reader, const std::vector<Param*>& params,
                        int64_t stored_nodes);

}  // namespace plsc
