// Updates of a row of class centres whose numbers are the row's own. LARS and LAMB (trust.h) take each row as a layer.
// Adam's second moment is one number a row, the mean of its elements' squares: Adagrad's "row-wise" form for embedding
// tables with Adam's decay, as FBGEMM has it under the name of partial row-wise Adam, and TorchRec by it. A row of D
// elements then has D + 1 numbers of state in place of 2 D.
#pragma once
#include "kernels/math/adam.h"
#include "kernels/math/trust.h"

namespace plsc::math {

/// v = beta2 v + (1 - beta2) mean of (gradient_scale g)^2. `squares`: the sum of g^2 over the row, `columns`: of how
/// many; zeros that only pad the row are none of them.
PLSC_HD_INLINE float row_second_moment(const AdamRule& r, float v, double squares, int64_t columns) {
  const double scale = r.gradient_scale;
  return r.beta2 * v + r.rest2 * static_cast<float>(scale * scale * squares / static_cast<double>(columns));
}

/// The rate of lars_update of a row, from the sums of squares of its weights and gradient.
PLSC_HD_INLINE float lars_rate(const UpdateRule& r, double w_squares, double g_squares) {
  const double g_norm = static_cast<double>(r.gradient_scale) * std::sqrt(g_squares);
  return static_cast<float>(static_cast<double>(r.lr) * lars_ratio(r, std::sqrt(w_squares), g_norm));
}

/// The rate of lamb_update of a row, from the sums of squares of its weights and of adam_direction's values.
PLSC_HD_INLINE float lamb_rate(const AdamRule& r, double w_squares, double u_squares) {
  return static_cast<float>(static_cast<double>(r.lr) * lamb_ratio(std::sqrt(w_squares), std::sqrt(u_squares)));
}

}  // namespace plsc::math
