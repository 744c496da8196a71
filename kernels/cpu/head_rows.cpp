// Plain loops along a row; see head_rows.h.
#include "kernels/cpu/head_rows.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/clones.h"
#include "kernels/math/normalize.h"

namespace plsc::kernels {
namespace {

template <class T>
PLSC_INLINE float dot(const T* a, const T* b, int64_t columns) {
  float sum = 0;
  for (int64_t d = 0; d < columns; ++d) sum += load(a[d]) * load(b[d]);
  return sum;
}

template <class T>
PLSC_INLINE void inverse_norms(const T* weights, int64_t rows, int64_t columns, float* inverse) {
  for (int64_t j = 0; j < rows; ++j) {
    const T* w = weights + j * columns;
    inverse[j] = math::inverse_norm(std::sqrt(dot(w, w, columns)));
  }
}

PLSC_INLINE float along(const RowGradient& g, const float* w) {
  return g.inverse_norm == 0 ? 0 : math::along_row(dot(g.u, w, g.columns), g.inverse_norm);
}

}  // namespace

PLSC_CLONES float row_dot(const float* a, const float* b, int64_t columns) { return dot(a, b, columns); }

PLSC_CLONES void row_inverse_norms(const float* weights, int64_t rows, int64_t columns, float* inverse) {
  inverse_norms(weights, rows, columns, inverse);
}
PLSC_CLONES void row_inverse_norms(const Bf16* weights, int64_t rows, int64_t columns, float* inverse) {
  inverse_norms(weights, rows, columns, inverse);
}

PLSC_CLONES void row_caught_up(const math::CatchUpMatrix<float>& m, const float* w, const float* v, int64_t columns,
                               float* to) {
  const math::CatchUpMatrix<float> local = m;
  for (int64_t d = 0; d < columns; ++d) {
    float a = w[d], b = v[d];
    math::catch_up(local, a, b);
    to[d] = a;
  }
}

PLSC_CLONES void row_catch_up(const math::CatchUpMatrix<float>& m, float* w, float* v, int64_t columns) {
  const math::CatchUpMatrix<float> local = m;
  for (int64_t d = 0; d < columns; ++d) math::catch_up(local, w[d], v[d]);
}

PLSC_CLONES void row_write_gradient(const RowGradient& gradient, const float* w, float* dw) {
  const float in_row = along(gradient, w);
  const float* u = gradient.u;
  for (int64_t d = 0; d < gradient.columns; ++d) dw[d] = math::row_gradient(u[d], in_row, w[d]);
}

PLSC_CLONES void row_add_gradient(const RowGradient& gradient, const float* w, float* dw) {
  const float in_row = along(gradient, w);
  const float* u = gradient.u;
  for (int64_t d = 0; d < gradient.columns; ++d) dw[d] += math::row_gradient(u[d], in_row, w[d]);
}

PLSC_CLONES float row_normalize(const float* x, int64_t columns, float* y) {
  const float norm = std::sqrt(dot(x, x, columns));
  const float inverse = math::inverse_norm(norm);
  for (int64_t d = 0; d < columns; ++d) y[d] = x[d] * inverse;
  return norm;
}

PLSC_CLONES void row_normalize_backward(const float* y, float norm, const float* dy, int64_t columns, float* dx) {
  const float inverse = math::inverse_norm(norm), in_row = math::along_unit_row(dot(y, dy, columns), norm);
  for (int64_t d = 0; d < columns; ++d) dx[d] = math::unit_row_gradient(dy[d], in_row, y[d], inverse);
}

}  // namespace plsc::kernels
