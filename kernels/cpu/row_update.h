// The step of a row of class centres by rules that want its norms first, in fp32: pieces of it along the row. (SGD, one
// pass over what is stored: row_step.h.) g: the row's gradient, w: its weights, v or m: its momentum or first moment;
// (columns) each.
#pragma once
#include <cstdint>

#include "kernels/math/row_update.h"

namespace plsc::kernels {

/// math::lars_update of each element.
void row_lars(const math::UpdateRule& rule, float rate, const float* g, float* w, float* v, int64_t columns);

/// math::adam_mean of each element.
void row_adam_mean(const math::AdamRule& rule, const float* g, float* m, int64_t columns);
/// The sum of squares of math::adam_direction with the row's second moment.
double row_direction_squares(const math::AdamRule& rule, const float* w, const float* m, float second, int64_t columns);
/// math::lamb_update of each element.
void row_along_direction(const math::AdamRule& rule, float rate, float second, float* w, const float* m,
                         int64_t columns);

}  // namespace plsc::kernels
