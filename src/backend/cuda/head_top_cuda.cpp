// The classes nearest to each sample: tiles in ascending order, each merged into the samples' lists.
#include "backend/cuda/head_tiles_cuda.h"
#include "kernels/cuda/head_top.h"

namespace plsc {

void cuda_top_rows(HeadWork& work, RowSource& rows, const HeadPass& pass, TopRows& top) {
  const cudaStream_t stream = work.runtime().stream;
  const kernels::cuda::TopLists lists{top.cosines.data<float>(), top.rows.data<int64_t>(), pass.x.dim(0),
                                      top.rows.dim(1)};
  PLSC_CHECK(lists.k >= 1 && lists.k <= kernels::cuda::kMostTop, "the {} nearest classes, at most {}", lists.k,
             kernels::cuda::kMostTop);
  kernels::cuda::start_top(lists, stream);
  HeadTileLoop loop(work, rows, pass.x, {.unit_rows = pass.unit_rows, .samples_by_rows = true});
  loop.run([&](const HeadTile& tile) {
    const kernels::cuda::TopTile here{tile.dots,         tile.inverse_norms, tile.source.begin,
                                      tile.source.count, tile.padded,        pass.logits.limit};
    kernels::cuda::merge_top(here, lists, stream);
  });
}

}  // namespace plsc
