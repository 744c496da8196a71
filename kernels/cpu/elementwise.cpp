#include "kernels/cpu/elementwise.h"

#include "kernels/math/dropout.h"

namespace plsc::kernels {

PLSC_CLONES void add(const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}

PLSC_CLONES void cast(const float* from, Bf16* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = math::float_to_bf16(from[i]);
}

PLSC_CLONES void cast(const Bf16* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = math::bf16_to_float(from[i]);
}

PLSC_CLONES double sum_of_squares(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

PLSC_CLONES void sgd(const math::SgdRule& rule, const float* grad, float* value, float* momentum, int64_t n) {
  const math::SgdRule local = rule;  // its members cannot alias the arrays
  for (int64_t i = 0; i < n; ++i) math::sgd_update(local, grad[i], value[i], momentum[i]);
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
