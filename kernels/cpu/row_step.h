// A stored row of class centres as a step reads it and as it leaves it, in one pass over the row each: whatever it is
// stored in, it is not written down in fp32 in between. W, V: weights and momentum, fp32 or bf16.
#pragma once
#include "kernels/cpu/head_rows.h"
#include "kernels/math/stochastic_rounding.h"

namespace plsc::kernels {

/// The operand of 16-bit products: to (columns) = the row after the steps that `missed` stands for, null: none.
/// Returns the sum of its squares, before it is rounded.
float row_operand(const math::CatchUpMatrix<float>* missed, const float* w, const float* v, int64_t columns, Bf16* to);
float row_operand(const math::CatchUpMatrix<float>* missed, const float* w, const Bf16* v, int64_t columns, Bf16* to);
float row_operand(const math::CatchUpMatrix<float>* missed, const Bf16* w, const float* v, int64_t columns, Bf16* to);
float row_operand(const math::CatchUpMatrix<float>* missed, const Bf16* w, const Bf16* v, int64_t columns, Bf16* to);

/// A row's step of the optimizer.
struct RowStep {
  RowGradient gradient;
  math::SgdRule rule;
  const math::CatchUpMatrix<float>* missed = nullptr;  // steps to be caught up first; null: none
  math::RowRandom weights, momentum;                   // for rounding what is stored in bf16
};
void row_step(const RowStep& step, float* w, float* v);
void row_step(const RowStep& step, float* w, Bf16* v);
void row_step(const RowStep& step, Bf16* w, float* v);
void row_step(const RowStep& step, Bf16* w, Bf16* v);

/// to (columns) = the row, rounded to bf16 by chance (kernels/math/stochastic_rounding.h), as row_step does.
void row_round(const math::RowRandom& random, const float* w, int64_t columns, Bf16* to);

}  // namespace plsc::kernels
