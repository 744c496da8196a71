// The classes nearest to an embedding, over all ranks, without ever gathering cosines of all classes.
#pragma once
#include "backend/row_source.h"
#include "head/head_form.h"
#include "head/margin_head.h"

namespace plsc {

/// All rows of this rank's shard.
struct ShardRows {
  RowSource& rows;
  const ClassShard& shard;
  const HeadForm& form;
};
/// See MarginHead::nearest.
MarginHead::Nearest nearest_classes(Context& context, const ShardRows& all, const Tensor& embeddings, int64_t k);

}  // namespace plsc
