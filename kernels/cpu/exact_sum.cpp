#include "kernels/cpu/exact_sum.h"

#include "kernels/cpu/clones.h"
#include "kernels/math/exact_sum.h"

namespace plsc::kernels {

PLSC_CLONES void add_exactly(const float* x, double* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += math::to_quanta<math::Quantum::gradient>(static_cast<double>(x[i]));
}

PLSC_CLONES void add_exactly(float a, const float* x, double* y, int64_t n) {
  const auto factor = static_cast<double>(a);
  for (int64_t i = 0; i < n; ++i) y[i] += math::to_quanta<math::Quantum::gradient>(factor * static_cast<double>(x[i]));
}

}  // namespace plsc::kernels
