// Plain loops along a row; see head_rows.h.
#include "kernels/cpu/head_rows.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/clones.h"
#include "kernels/math/normal.h"
#include "kernels/math/normalize.h"
#include "kernels/math/stochastic_rounding.h"

namespace plsc::kernels {
namespace {

PLSC_INLINE float dot(const float* a, const float* b, int64_t columns) {
  float sum = 0;
  for (int64_t d = 0; d < columns; ++d) sum += a[d] * b[d];
  return sum;
}

PLSC_INLINE float along(const RowGradient& g, const float* w) {
  return g.inverse_norm == 0 ? 0 : math::along_row(dot(g.u, w, g.columns), g.inverse_norm);
}

}  // namespace

PLSC_CLONES float row_dot(const float* a, const float* b, int64_t columns) { return dot(a, b, columns); }

PLSC_CLONES void row_inverse_norms(const float* weights, int64_t rows, int64_t columns, float* inverse) {
  for (int64_t j = 0; j < rows; ++j) {
    const float* w = weights + j * columns;
    inverse[j] = math::inverse_norm(std::sqrt(dot(w, w, columns)));
  }
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

PLSC_CLONES void row_update(const RowGradient& gradient, const math::SgdRule& rule, float* w, float* v) {
  const float in_row = along(gradient, w);
  const float* u = gradient.u;
  const math::SgdRule local = rule;
  for (int64_t d = 0; d < gradient.columns; ++d)
    math::sgd_update(local, math::row_gradient(u[d], in_row, w[d]), w[d], v[d]);
}

void row_round(const RoundedRow& row, const float* w, Bf16* to) {
  for (int64_t d = 0; d < row.columns; d += 8) {
    const math::Random4 bits = math::rounding_bits(row.seed, row.update, row.class_id, row.columns, d / 8);
    for (int64_t k = d; k < std::min(row.columns, d + 8); ++k) {
      to[k] = math::float_to_bf16_stochastic(w[k], math::rounding_bits_of(bits, k));
    }
  }
}

void class_keys(uint64_t seed, int64_t step, int64_t first, int64_t count, uint32_t* keys) {
  // One draw serves four classes.
  for (int64_t c = first; c < first + count;) {
    const math::Random4 r =
        math::random4(seed, math::Draw::class_sample, static_cast<uint64_t>(step), static_cast<uint64_t>(c) / 4);
    for (int64_t word = c % 4; word < 4 && c < first + count; ++word, ++c) keys[c - first] = r.x[word];
  }
}

void row_init(uint64_t seed, int64_t class_id, float std, int64_t columns, float* w) {
  for (int64_t d = 0; d < columns; d += 4) {
    const math::Normal4 n = math::normal4(
        math::random4(seed, math::Draw::center_init, static_cast<uint64_t>(class_id), static_cast<uint64_t>(d) / 4));
    for (int64_t k = 0; k < std::min<int64_t>(4, columns - d); ++k) w[d + k] = static_cast<float>(std * n.x[k]);
  }
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
