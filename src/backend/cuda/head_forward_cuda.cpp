// The forward pass: each tile's sums of exponentials in parts, merged into the totals tile by tile, in double and in
// one order.
#include "backend/cuda/head_tiles_cuda.h"

namespace plsc {

void cuda_forward_pass(HeadWork& work, RowSource& rows, const HeadPass& pass, HeadSums& sums) {
  const cudaStream_t stream = work.runtime().stream;
  Device& device = work.runtime().device;
  HeadTileLoop loop(work, rows, pass.x, {.compute = pass.compute, .unit_rows = pass.unit_rows});
  const kernels::cuda::TileSums total{sums.sum.data<double>(), sums.shift.data<float>(), sums.max_cosine.data<float>()};
  kernels::cuda::start_sums(loop.samples(), total, sums.fixed_shift, stream);
  if (loop.plan().tiles == 0) return;

  const kernels::cuda::TileShape largest{loop.plan().tile, loop.samples(), loop.plan().tile, loop.stride()};
  const Shape shape{kernels::cuda::tile_parts(largest), loop.stride()};
  Tensor sum = device.tensor(shape, Dtype::f64), shift = device.tensor(shape), max_cosine = device.tensor(shape);
  const kernels::cuda::TileSums parts{sum.data<double>(), shift.data<float>(), max_cosine.data<float>()};
  const float* fixed = sums.fixed_shift ? sums.shift.data<float>() : nullptr;
  loop.run([&](const HeadTile& tile) {
    const kernels::cuda::TileShape here = tile_shape(loop, tile);
    kernels::cuda::sum_tile(here, tile_logits(pass, tile), fixed, parts, stream);
    kernels::cuda::merge_tile(here, parts, total, sums.fixed_shift, stream);
  });
}

}  // namespace plsc
