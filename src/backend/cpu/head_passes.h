// The passes of the head that loop over tiles, one function a file. See head_ops.h for what they compute.
#pragma once
#include "backend/cpu/head_workspace.h"
#include "backend/head_ops.h"
#include "kernels/cpu/head_tile.h"
#include "kernels/math/step_state.h"

namespace plsc {

void cpu_forward_pass(HeadWorkspace& work, RowSource& rows, const HeadPass& pass, HeadSums& sums);
/// Rows are updated unless `state` blocks it.
void cpu_backward_pass(HeadWorkspace& work, RowSource& rows, const HeadPass& pass, HeadGradient& gradient,
                       const math::StepState& state);
void cpu_top_rows(HeadWorkspace& work, RowSource& rows, const HeadPass& pass, TopRows& top);

/// Of the tile's rows from `first` on.
inline kernels::TileLogits tile_logits(const HeadPass& pass, TileScratch& scratch, int64_t first = 0) {
  return {scratch.inverse.data<float>() + first, pass.logits};
}

}  // namespace plsc
