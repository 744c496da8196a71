// The optimizer's arithmetic on replicated parameters: all of them in one launch. What depends on the step is read from
// the step's state in device memory (kernels/math/step_state.h).
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/math/step_state.h"

namespace plsc::kernels::cuda {

/// Parameters are cut into pieces of this many elements (their last ones shorter), a block's work each.
inline constexpr int64_t kOptimPiece = 16384;

/// One piece, in device memory. Accesses are 16 bytes wide where all three are aligned so.
struct OptimPiece {
  const float* grad = nullptr;
  float* value = nullptr;     // unused where gradients alone are read
  float* momentum = nullptr;  // the same
  int64_t count = 0;
};

/// state.grad_squares = the sum of squares of all gradients, in double and always in the same order; then
/// math::judge_gradient. `partial`: room for `pieces` numbers. All pointers, the table's too, are device memory.
void judge_gradients(const OptimPiece* table, int64_t pieces, double* partial, math::StepState* state,
                     cudaStream_t stream);

/// math::mark_not_finite(gradient) where any of the n elements is not finite.
void check_finite(const float* gradient, int64_t n, math::StepState* state, cudaStream_t stream);

/// math::sgd_update by math::step_rule on all elements; nothing where math::updates_blocked.
void sgd(const OptimPiece* table, int64_t pieces, const math::UpdateGroup& group, const math::StepState* state,
         cudaStream_t stream);

/// math::finish_step
void finish_step(math::StepState* state, cudaStream_t stream);

}  // namespace plsc::kernels::cuda
