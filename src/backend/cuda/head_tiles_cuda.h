// The loop over tiles that the head's passes on a GPU share: rows are gathered and multiplied with the embeddings one
// tile ahead, on a stream of their own, while the pass works on the tile before.
//
// A tile's dot products lie with a row a class: dots (T, S) = W X^T for T rows of class centres and S samples. Then all
// three products of the head are plain ones of matrices as they lie, without a transposition of anything in memory
//   dots (T, S) = W (T, D) X^T,   u (T, D) = G (T, S) X (S, D),   dx (S, D) += G^T W,
// a class's sums over its columns are rows of u, and the kernels in between (kernels/cuda/head_tile.h) read and write
// whole lines of dots.
#pragma once
#include <array>
#include <functional>

#include "backend/cuda/event.h"
#include "backend/cuda/gemm.h"
#include "backend/cuda/head_tile_plan.h"
#include "backend/head_ops.h"
#include "kernels/cuda/head_rows.h"
#include "kernels/cuda/head_tile.h"

namespace plsc {

/// What the passes of one rank keep from call to call.
class HeadWork {
 public:
  HeadWork(const CudaRuntime& runtime, int64_t tile_rows);

  const CudaRuntime& runtime() const { return runtime_; }
  HeadTilePlan plan(const RowSource& rows, int64_t samples, Dtype compute) const;

 private:
  friend class HeadTileLoop;
  const CudaRuntime& runtime_;
  int64_t tile_rows_, cache_bytes_;
  Stream ahead_;                       // gathers and multiplies
  GemmCache gemms_;                    // on it
  Event start_;                        // what the compute stream was given before the pass
  std::array<Event, 2> ready_, used_;  // by slot: its dot products are there; the pass is done with them
};

/// A tile whose dot products are there, in the order of the compute stream.
struct HeadTile {
  int64_t index = 0;  // 0, 1, ...
  RowTile source;
  kernels::cuda::HeadRows rows;          // the same for kernels
  int64_t padded = 0;                    // rows of operand and dots; zero rows behind source.count
  const void* operand = nullptr;         // (padded, D) in the compute type
  const float* inverse_norms = nullptr;  // (count); 1 where rows count as they are
  float* dots = nullptr;  // (padded, stride), or (samples, padded) where samples_by_rows; free to be written over
};

/// One pass's loop.
class HeadTileLoop {
 public:
  struct Options {
    Dtype compute = Dtype::f32;
    RowAccess access = RowAccess::read;
    bool unit_rows = true;         // HeadPass::unit_rows
    bool samples_by_rows = false;  // dots (samples, padded)
  };
  /// x (B, D) fp32. Takes the memory that the tiles need.
  HeadTileLoop(HeadWork& work, RowSource& rows, const Tensor& x, const Options& options);

  const HeadTilePlan& plan() const { return plan_; }
  int64_t samples() const { return x_.dim(0); }
  int64_t columns() const { return x_.dim(1); }
  /// Between rows of dots (T, S): the samples, and up to whole 16 bytes of any type.
  int64_t stride() const { return stride_; }
  /// x in the compute type.
  const void* x() const { return operand_x_.raw(); }

  /// use(tile) for each tile in order; what it gives to the compute stream may use the tile, and what is given there
  /// after `run` comes behind all of it.
  void run(const std::function<void(const HeadTile&)>& use);

 private:
  struct Slot {
    Tensor operand, inverse_norms, dots;
    HeadTile tile;
  };
  void begin(int64_t t);
  GemmSpec dots_spec(const HeadTile& tile) const;

  HeadWork& work_;
  RowSource& rows_;
  Tensor x_;
  Options options_;
  HeadTilePlan plan_;
  int64_t stride_;
  Tensor operand_x_;
  std::array<Slot, 2> slots_;
};

kernels::cuda::HeadRows head_rows_of(const RowTile& tile, int64_t columns);
inline kernels::cuda::HeadType head_type(Dtype dtype) {
  PLSC_CHECK(dtype == Dtype::f32 || dtype == Dtype::bf16, "the head in {}", dtype_name(dtype));
  return dtype == Dtype::f32 ? kernels::cuda::HeadType::f32 : kernels::cuda::HeadType::bf16;
}
inline kernels::cuda::TileShape tile_shape(const HeadTileLoop& loop, const HeadTile& tile) {
  return {tile.source.count, loop.samples(), tile.padded, loop.stride()};
}
inline kernels::cuda::TileLogits tile_logits(const HeadPass& pass, const HeadTile& tile) {
  kernels::cuda::TileLogits logits;
  logits.dots = tile.dots;
  logits.inverse_norms = tile.inverse_norms;
  logits.position = pass.position.data<int64_t>();
  logits.begin = tile.source.begin;
  logits.rule = pass.logits;
  return logits;
}

/// The passes that loop over tiles, one function a file. See head_ops.h for what they compute.
void cuda_forward_pass(HeadWork& work, RowSource& rows, const HeadPass& pass, HeadSums& sums);
void cuda_backward_pass(HeadWork& work, RowSource& rows, const HeadPass& pass, HeadGradient& gradient,
                        const math::StepState* state);
void cuda_top_rows(HeadWork& work, RowSource& rows, const HeadPass& pass, TopRows& top);

}  // namespace plsc
