// In which order the micro-batches of a step go through its stages.
#pragma once
#include <cstddef>
#include <vector>

namespace plsc {

/// Of a micro-batch, in this order. Behind each but the last the ranks exchange what the next one begins with: the
/// embeddings, the sums of their logits, the gradients of the embeddings.
enum class Stage { forward, head_forward, head_backward, backward };

struct StageOf {
  Stage stage = Stage::forward;
  size_t batch = 0;
  bool operator==(const StageOf&) const = default;
};

/// All stages of all micro-batches: one after another, or `together` > 1 of them, a part of the step, as a pipeline, in
/// which a stage is a micro-batch behind the stage before it (Song et al., "Large-scale training system for 100-million
/// classification at Alibaba", KDD 2020, the hybrid pipeline):
///
///   forward 0, forward 1, head_forward 0, forward 2, head_forward 1, head_backward 0,
///   head_forward 2, head_backward 1, head_backward 2, backward 0, backward 1, backward 2
///
/// Between two stages of a micro-batch there is one of another, which hides the exchange. The backward passes come at
/// the end because the network goes through them block by block, each for all micro-batches (NetworkRunner): so
/// gradients are complete early, and the whole of this work hides their way over the ranks. Each stage takes the
/// micro-batches in their order, so that sums over them are those of one after another, to the bit.
std::vector<StageOf> step_order(size_t micro_batches, size_t together);

}  // namespace plsc
