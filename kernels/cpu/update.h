// Updates of parameters by AdamW, LARS and LAMB (kernels/math/{adam,trust}.h) over flat ranges, and the average
// of weights. One thread's piece
// each; the callers split, and add the sums of squares of the pieces of a tensor. SGD: elementwise.h.
#pragma once
#include <cstdint>

#include "kernels/math/average.h"
#include "kernels/math/trust.h"

namespace plsc::kernels {

/// The elements [0, n) of a parameter. A gradient in double is rounded to fp32 first.
template <class Gradient>
struct UpdateRange {
  const Gradient* grad = nullptr;
  float* value = nullptr;
  float* momentum = nullptr;  // adamw, lamb: the mean of gradients
  float* squares = nullptr;   // adamw, lamb: the mean of their squares
  int64_t n = 0;
};

/// Of two tensors' elements, in double: what a trust ratio is made of.
struct TwoSquares {
  double value = 0, other = 0;
};

/// math::adamw_update
void adamw(const math::AdamRule& rule, const UpdateRange<float>& range);
void adamw(const math::AdamRule& rule, const UpdateRange<double>& range);

/// math::adam_moments; gives the squares of the values and of math::adam_direction.
TwoSquares lamb_moments(const math::AdamRule& rule, const UpdateRange<float>& range);
TwoSquares lamb_moments(const math::AdamRule& rule, const UpdateRange<double>& range);
/// math::lamb_update
void lamb(const math::AdamRule& rule, float rate, float* value, const float* momentum, const float* squares, int64_t n);

/// The squares of the values and of the gradients as they are in memory.
TwoSquares lars_squares(const UpdateRange<float>& range);
TwoSquares lars_squares(const UpdateRange<double>& range);
/// math::lars_update
void lars(const math::UpdateRule& rule, float rate, const UpdateRange<float>& range);
void lars(const math::UpdateRule& rule, float rate, const UpdateRange<double>& range);

/// x *= factor
void scale(float factor, float* x, int64_t n);

/// math::average_in
void average(float rest, const float* value, float* average, int64_t n);

}  // namespace plsc::kernels
