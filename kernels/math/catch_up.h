// Catching up rows that were not sampled. Under dense SGD a row without a gradient still decays and coasts on its
// momentum: (w, v) <- M (w, v) with one 2x2 matrix a step, the same for every element of every row. What a row missed
// is the product of the matrices since its last update. Products are built by multiplying each step's matrix on the
// left, never by an inverse, and are held in double.
#pragma once
#include "kernels/math/host_device.h"
#include "kernels/math/sgd.h"

namespace plsc::math {

/// (w, v) <- (w + ww1 w + wv v, vw w + vv v). The diagonal entry of w is kept as its difference from one: it is within
/// 1e-4 of one, and rounding it to fp32 would bend every row in the same direction at every step.
template <class T>
struct CatchUpMatrix {
  T ww1 = 0, wv = 0, vw = 0, vv = 1;
};
static_assert(sizeof(CatchUpMatrix<float>) == 4 * sizeof(float));  // tables of them are tensors (n, 4)

/// One step of sgd_update with a gradient of zero.
inline CatchUpMatrix<double> idle_step(const SgdRule& rule) {
  const double lr = rule.lr, mu = rule.momentum, l = rule.weight_decay;
  if (rule.nesterov) return {-lr * l * (1 + mu), -lr * mu * mu, l, mu};
  return {-lr * l, -lr * mu, l, mu};
}

/// The matrix that does `first` and then `then`.
inline CatchUpMatrix<double> compose(const CatchUpMatrix<double>& then, const CatchUpMatrix<double>& first) {
  CatchUpMatrix<double> m;
  m.ww1 = then.ww1 + first.ww1 + then.ww1 * first.ww1 + then.wv * first.vw;
  m.wv = first.wv + then.ww1 * first.wv + then.wv * first.vv;
  m.vw = then.vw + then.vw * first.ww1 + then.vv * first.vw;
  m.vv = then.vw * first.wv + then.vv * first.vv;
  return m;
}

template <class T>
PLSC_HD inline void catch_up(const CatchUpMatrix<T>& m, T& w, T& v) {
  const T w0 = w, v0 = v;
  w = w0 + (m.ww1 * w0 + m.wv * v0);
  v = m.vw * w0 + m.vv * v0;
}

}  // namespace plsc::math
