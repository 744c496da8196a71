#include "kernels/cpu/update.h"

#include "kernels/cpu/clones.h"

namespace plsc::kernels {

namespace {

/// Sums that are carried side by side, so that the loop vectorises in an order that no instruction set changes.
constexpr int kLanes = 8;

/// The sum of term(i) over [0, n).
template <class Term>
PLSC_INLINE TwoSquares sum_terms(int64_t n, const Term& term) {
  double value[kLanes] = {}, other[kLanes] = {};
  const int64_t whole = n / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int k = 0; k < kLanes; ++k) term(i + k, value[k], other[k]);
  }
  for (int64_t i = whole; i < n; ++i) term(i, value[i - whole], other[i - whole]);
  TwoSquares sum;
  for (int k = 0; k < kLanes; ++k) {
    sum.value += value[k];
    sum.other += other[k];
  }
  return sum;
}

PLSC_INLINE void add_square(float x, double& sum) { sum += static_cast<double>(x) * static_cast<double>(x); }

template <class T>
PLSC_INLINE void adamw_all(const math::AdamRule& rule, const UpdateRange<T>& range) {
  const math::AdamRule r = rule;  // its members cannot alias the arrays
  const UpdateRange<T> x = range;
  for (int64_t i = 0; i < x.n; ++i)
    math::adamw_update(r, static_cast<float>(x.grad[i]), x.value[i], x.momentum[i], x.squares[i]);
}

template <class T>
PLSC_INLINE TwoSquares moments_all(const math::AdamRule& rule, const UpdateRange<T>& range) {
  const math::AdamRule r = rule;
  const UpdateRange<T> x = range;
  for (int64_t i = 0; i < x.n; ++i) math::adam_moments(r, static_cast<float>(x.grad[i]), x.momentum[i], x.squares[i]);
  return sum_terms(x.n, [&](int64_t i, double& value, double& other) {
    add_square(x.value[i], value);
    add_square(math::adam_direction(r, x.value[i], x.momentum[i], x.squares[i]), other);
  });
}

template <class T>
PLSC_INLINE TwoSquares lars_squares_all(const UpdateRange<T>& range) {
  const UpdateRange<T> x = range;
  return sum_terms(x.n, [&](int64_t i, double& value, double& other) {
    add_square(x.value[i], value);
    add_square(static_cast<float>(x.grad[i]), other);
  });
}

template <class T>
PLSC_INLINE void lars_all(const math::UpdateRule& rule, float rate, const UpdateRange<T>& range) {
  const math::UpdateRule r = rule;
  const UpdateRange<T> x = range;
  for (int64_t i = 0; i < x.n; ++i)
    math::lars_update(r, rate, static_cast<float>(x.grad[i]), x.value[i], x.momentum[i]);
}

}  // namespace

PLSC_CLONES void adamw(const math::AdamRule& rule, const UpdateRange<float>& range) { adamw_all(rule, range); }
PLSC_CLONES void adamw(const math::AdamRule& rule, const UpdateRange<double>& range) { adamw_all(rule, range); }

PLSC_CLONES TwoSquares lamb_moments(const math::AdamRule& rule, const UpdateRange<float>& range) {
  return moments_all(rule, range);
}
PLSC_CLONES TwoSquares lamb_moments(const math::AdamRule& rule, const UpdateRange<double>& range) {
  return moments_all(rule, range);
}

PLSC_CLONES void lamb(const math::AdamRule& rule, float rate, float* value, const float* momentum, const float* squares,
                      int64_t n) {
  const math::AdamRule r = rule;
  for (int64_t i = 0; i < n; ++i) math::lamb_update(r, rate, value[i], momentum[i], squares[i]);
}

PLSC_CLONES TwoSquares lars_squares(const UpdateRange<float>& range) { return lars_squares_all(range); }
PLSC_CLONES TwoSquares lars_squares(const UpdateRange<double>& range) { return lars_squares_all(range); }

PLSC_CLONES void lars(const math::UpdateRule& rule, float rate, const UpdateRange<float>& range) {
  lars_all(rule, rate, range);
}
PLSC_CLONES void lars(const math::UpdateRule& rule, float rate, const UpdateRange<double>& range) {
  lars_all(rule, rate, range);
}

PLSC_CLONES void scale(float factor, float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

PLSC_CLONES void average(float rest, const float* value, float* average, int64_t n) {
  for (int64_t i = 0; i < n; ++i) math::average_in(rest, value[i], average[i]);
}

}  // namespace plsc::kernels
