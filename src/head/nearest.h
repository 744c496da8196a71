// The classes nearest to an embedding, over all ranks, without ever gathering cosines of all classes.
#pragma once
#include "backend/row_source.h"
#include "head/margin_head.h"

namespace plsc {

/// `rows` are all rows of this rank's shard. See MarginHead::nearest.
MarginHead::Nearest nearest_classes(Context& context, RowSource& rows, const ClassShard& shard,
                                    const Tensor& embeddings, int64_t k);

}  // namespace plsc
