// Embedding a whole source on all ranks together, in rounds whose cuts do not depend on the number of ranks.
#pragma once
#include <functional>

#include "eval/evaluator.h"

namespace plsc {

struct EmbedJob {
  const DataSource& source;
  const DataConfig& data;
  int64_t batch_size = 64;
  bool flip_sum = false;
  std::string what;  // for the progress line; empty: none
};

/// Calls `use(mine, begin)` round by round: this rank's embeddings (n, D) of images [begin, begin + n), n may be 0.
/// Batches are cut at multiples of batch_size of the whole source and go to ranks as wholes, so that an image meets
/// the same images in its batch on any number of ranks. Every rank sees the same number of rounds, so that `use` may
/// contain collectives.
void embed_in_rounds(Context& context, Backbone& backbone, const EmbedJob& job,
                     const std::function<void(const Tensor& mine, int64_t begin)>& use);

/// The rows of all ranks, in rank order, on the host of every rank; `mine` (n, columns) on the host, n may differ and
/// be 0. In a round of embed_in_rounds these are images that follow each other.
Tensor gather_rows(Context& context, const Tensor& mine);

/// All embeddings, (N, D) fp32 on the host of every rank.
Tensor embed_all(Context& context, Backbone& backbone, const EmbedJob& job);

}  // namespace plsc
