// Plain loops along a row; see row_update.h.
#include "kernels/cpu/row_update.h"

#include "kernels/cpu/clones.h"

namespace plsc::kernels {

PLSC_CLONES void row_lars(const math::UpdateRule& rule, float rate, const float* g, float* w, float* v,
                          int64_t columns) {
  const math::UpdateRule local = rule;  // its members cannot alias the arrays
  for (int64_t d = 0; d < columns; ++d) math::lars_update(local, rate, g[d], w[d], v[d]);
}

PLSC_CLONES void row_adam_mean(const math::AdamRule& rule, const float* g, float* m, int64_t columns) {
  const math::AdamRule local = rule;
  for (int64_t d = 0; d < columns; ++d) math::adam_mean(local, g[d], m[d]);
}

PLSC_CLONES double row_direction_squares(const math::AdamRule& rule, const float* w, const float* m, float second,
                                         int64_t columns) {
  const math::AdamRule local = rule;
  double sum = 0;
  for (int64_t d = 0; d < columns; ++d) {
    const double u = math::adam_direction(local, w[d], m[d], second);
    sum += u * u;
  }
  return sum;
}

PLSC_CLONES void row_along_direction(const math::AdamRule& rule, float rate, float second, float* w, const float* m,
                                     int64_t columns) {
  const math::AdamRule local = rule;
  for (int64_t d = 0; d < columns; ++d) math::lamb_update(local, rate, w[d], m[d], second);
}

}  // namespace plsc::kernels
