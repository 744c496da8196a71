#include "kernels/cpu/elementwise.h"

#include "kernels/math/dropout.h"

namespace plsc::kernels {

namespace {

template <class From, class To>
PLSC_INLINE void add_all(const From* x, To* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<To>(y[i] + x[i]);
}

template <class T>
PLSC_INLINE double squares(const T* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto v = static_cast<double>(static_cast<float>(x[i]));
    sum += v * v;
  }
  return sum;
}

template <class T>
PLSC_INLINE void sgd_all(const math::SgdRule& rule, const T* grad, float* value, float* momentum, int64_t n) {
  const math::SgdRule local = rule;  // its members cannot alias the arrays
  for (int64_t i = 0; i < n; ++i) math::sgd_update(local, static_cast<float>(grad[i]), value[i], momentum[i]);
}

}  // namespace

PLSC_CLONES void add(const float* x, float* y, int64_t n) { add_all(x, y, n); }
PLSC_CLONES void add(const double* x, double* y, int64_t n) { add_all(x, y, n); }
PLSC_CLONES void add(const double* x, float* y, int64_t n) { add_all(x, y, n); }

PLSC_CLONES void cast(const float* from, Bf16* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = math::float_to_bf16(from[i]);
}

PLSC_CLONES void cast(const Bf16* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = math::bf16_to_float(from[i]);
}

PLSC_CLONES void cast(const double* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<float>(from[i]);
}

PLSC_CLONES double sum_of_squares(const float* x, int64_t n) { return squares(x, n); }
PLSC_CLONES double sum_of_squares(const double* x, int64_t n) { return squares(x, n); }

PLSC_CLONES void sgd(const math::SgdRule& rule, const float* grad, float* value, float* momentum, int64_t n) {
  sgd_all(rule, grad, value, momentum, n);
}
PLSC_CLONES void sgd(const math::SgdRule& rule, const double* grad, float* value, float* momentum, int64_t n) {
  sgd_all(rule, grad, value, momentum, n);
}

namespace {

template <class T>
PLSC_INLINE void dropout_range(const DropoutRange& r, const T* x, T* y) {
  const float scale = 1.0f / (1.0f - r.p);
  int64_t i = 0;
  while (i < r.n) {
    const uint64_t g = r.first + static_cast<uint64_t>(i);
    const math::Random4 bits = math::dropout_bits(r.seed, r.step, g);
    for (auto lane = static_cast<unsigned>(g % 4); lane < 4 && i < r.n; ++lane, ++i) {
      store(math::dropped(load(x[i]), bits.x[lane], r.p, scale), y[i]);
    }
  }
}

}  // namespace

void dropout(const DropoutRange& range, const float* x, float* y) { dropout_range(range, x, y); }
void dropout(const DropoutRange& range, const Bf16* x, Bf16* y) { dropout_range(range, x, y); }

}  // namespace plsc::kernels
