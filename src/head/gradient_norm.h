// The head's part of the global norm (train.clip_head): the squares of dW of all ranks' active rows.
#pragma once
#include "runtime/context.h"

namespace plsc {

/// Writes the sum over all ranks into the step's state, the same bits on each: one number a rank, added up by rank.
/// Where sums are exact, one number a row, added up in the order of the classes, which no number of ranks changes.
/// dweight (active rows of this rank, D). All ranks call it.
void measure_head_gradient(Context& context, const Tensor& dweight);

}  // namespace plsc
