// The backward pass: each tile's cosines once more, their gradient over them (in bf16 beside them), the two products
// that it feeds, and the rows' update. Sums over classes (dx) grow from tile to tile in fp32 inside the product.
#include "backend/cuda/head_tiles_cuda.h"

namespace plsc {
namespace {

struct Backward {
  const CudaRuntime& runtime;
  const HeadPass& pass;
  const HeadGradient& gradient;
  const math::StepState* state;
  const HeadTileLoop& loop;
  Tensor gradient16;    // (T, stride) bf16, where that is computed in
  Tensor row_gradient;  // (T, D)

  /// G, d loss / d cos / |w| (padded, stride), in the products' type; 0 in the padding.
  const void* to_gradient(const HeadTile& tile) const {
    kernels::cuda::TileGradient how;
    how.factor = static_cast<float>(static_cast<double>(pass.logits.scale) * gradient.gradient_scale);
    how.log_sum = gradient.log_sum.data<float>();
    how.target_gradient = gradient.target_gradient.data<float>();
    const kernels::cuda::TileShape shape = tile_shape(loop, tile);
    const kernels::cuda::TileLogits logits = tile_logits(pass, tile);
    if (pass.compute == Dtype::f32) {
      kernels::cuda::tile_gradient(shape, logits, how, tile.dots, runtime.stream);
      return tile.dots;
    }
    auto* g = static_cast<uint16_t*>(gradient16.raw());
    kernels::cuda::tile_gradient_bf16(shape, logits, how, g, runtime.stream);
    return g;
  }

  /// dx (B, D) += G^T W
  void add_sample_gradient(const HeadTile& tile, const void* g) const {
    GemmSpec spec;
    spec.m = loop.samples();
    spec.n = loop.columns();
    spec.k = tile.padded;
    spec.transpose_a = true;
    spec.lda = loop.stride();
    spec.in = pass.compute;
    runtime.gemms->run(spec, {g, tile.operand, gradient.dx.raw(), 1, tile.index == 0 ? 0.0F : 1.0F});
  }

  /// u (padded, D) = G X
  void find_row_gradient(const HeadTile& tile, const void* g) const {
    GemmSpec spec;
    spec.m = tile.padded;
    spec.n = loop.columns();
    spec.k = loop.samples();
    spec.lda = loop.stride();
    spec.in = pass.compute;
    runtime.gemms->run(spec, {g, loop.x(), row_gradient.raw()});
  }

  void use(const HeadTile& tile) const {
    const void* g = to_gradient(tile);
    // Before the update: the operand may be the rows themselves.
    add_sample_gradient(tile, g);
    find_row_gradient(tile, g);
    const kernels::cuda::RowGradients gradients{row_gradient.data<float>(),
                                                pass.unit_rows ? tile.inverse_norms : nullptr};
    if (gradient.update) {
      kernels::cuda::update_rows(tile.rows, gradients, *gradient.update, state, runtime.stream);
    } else {
      float* dw = gradient.dweight.data<float>() + tile.source.begin * loop.columns();
      kernels::cuda::keep_gradients(tile.rows, gradients, gradient.accumulate, dw, runtime.stream);
    }
  }
};

}  // namespace

void cuda_backward_pass(HeadWork& work, RowSource& rows, const HeadPass& pass, HeadGradient& gradient,
                        const math::StepState* state) {
  PLSC_CHECK(gradient.update.has_value() != gradient.dweight.defined());
  PLSC_CHECK(gradient.dx.dtype() == Dtype::f32, "a GPU sums no gradients in {}", dtype_name(gradient.dx.dtype()));
  Device& device = work.runtime().device;
  const RowAccess access = gradient.update ? RowAccess::update : RowAccess::read;
  HeadTileLoop loop(work, rows, pass.x, {.compute = pass.compute, .access = access, .unit_rows = pass.unit_rows});
  if (loop.plan().tiles == 0) {
    device.fill_zero(gradient.dx);
    return;
  }
  Backward backward{work.runtime(), pass, gradient, state, loop, {}, device.tensor({loop.plan().tile, loop.columns()})};
  if (pass.compute == Dtype::bf16) backward.gradient16 = device.tensor({loop.plan().tile, loop.stride()}, Dtype::bf16);
  loop.run([&](const HeadTile& tile) { backward.use(tile); });
}

}  // namespace plsc
