// The optimizer's arithmetic on replicated parameters: all of them in one launch. What depends on the step is read from
// the step's state in device memory (kernels/math/step_state.h).
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/math/average.h"
#include "kernels/math/step_state.h"

namespace plsc::kernels::cuda {

/// Parameters are cut into pieces of this many elements (their last ones shorter), a block's work each.
inline constexpr int64_t kOptimPiece = 16384;

/// One piece, in device memory. Accesses are 16 bytes wide where all its arrays are aligned so.
struct OptimPiece {
  const float* grad = nullptr;
  float* value = nullptr;     // unused where gradients alone are read
  float* momentum = nullptr;  // the same
  float* squares = nullptr;   // adamw, lamb
  int64_t count = 0;
  int64_t first = 0, pieces = 0;  // the tensor's, in the table
  bool operator==(const OptimPiece&) const = default;
};

/// state.grad_squares = the sum of squares of all gradients, in double and always in the same order; then
/// math::judge_gradient. `partial`: room for `pieces` numbers. All pointers, the table's too, are device memory.
void judge_gradients(const OptimPiece* table, int64_t pieces, double* partial, math::StepState* state,
                     cudaStream_t stream);

/// sums[i] = the squares of elements [i each, (i + 1) each) of `gradient`, in double and always in the same order.
void part_squares(const float* gradient, int64_t parts, int64_t each, double* sums, cudaStream_t stream);
/// sum[0] = the squares of all n elements, the same. `partial`: room for a number for each kOptimPiece of them.
void all_squares(const float* gradient, int64_t n, double* partial, double* sum, cudaStream_t stream);
/// state.head_squares = the n sums, added up one by one.
void note_head_squares(const double* sums, int64_t n, math::StepState* state, cudaStream_t stream);
/// gradient *= state.clip_factor; nothing where math::updates_blocked.
void clip(float* gradient, int64_t n, const math::StepState* state, cudaStream_t stream);

/// math::mark_not_finite(gradient) where any of the n elements is not finite.
void check_finite(const float* gradient, int64_t n, math::StepState* state, cudaStream_t stream);

/// math::sgd_update by math::step_rule on all elements; nothing where math::updates_blocked.
void sgd(const OptimPiece* table, int64_t pieces, const math::UpdateGroup& group, const math::StepState* state,
         cudaStream_t stream);

/// math::adamw_update; the same.
void adamw(const OptimPiece* table, int64_t pieces, const math::UpdateGroup& group, const math::StepState* state,
           cudaStream_t stream);

/// math::lars_update and math::lamb_update, by the trust ratio of each tensor where group.layer_wise (lamb: always):
/// one launch for the norms, in double and always in the same order, and one for the updates. `partial`: room for
/// 2 `pieces` numbers. The same.
void lars(const OptimPiece* table, int64_t pieces, const math::UpdateGroup& group, double* partial,
          const math::StepState* state, cudaStream_t stream);
void lamb(const OptimPiece* table, int64_t pieces, const math::UpdateGroup& group, double* partial,
          const math::StepState* state, cudaStream_t stream);

/// math::average_in of the pieces' values into their averages, which are where `momentum` points.
void average(const OptimPiece* table, int64_t pieces, const math::AverageRule& rule, const math::StepState* state,
             cudaStream_t stream);

/// math::finish_step
void finish_step(math::StepState* state, cudaStream_t stream);

}  // namespace plsc::kernels::cuda
