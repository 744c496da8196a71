// Catching up rows that were not sampled. Under dense SGD a row without a gradient still decays and coasts on its
// momentum: (w, v) <- M (w, v) with one 2x2 matrix a step, the same for every element of every row. What a row missed
// is the product of the matrices since its last update. Products are built by multiplying each step's matrix on the
// left, never by an inverse, and are held in double.
//
// LARS, each row a layer: without a gradient the ratio is the constant trust / weight_decay, whatever |w| is, so its
// steps are matrices as well. AdamW with one second moment a row (row_update.h): so are they, but for the entry that
// moves w along its first moment, which depends on the row's second one: that entry is a sum over the steps missed,
// made row by row (CoastingRow). LAMB's ratio is of each step's |w|: no such form.
#pragma once
#include <cmath>

#include "kernels/math/adam.h"
#include "kernels/math/host_device.h"
#include "kernels/math/update_rule.h"

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

/// One step of lars_update with a gradient of zero: rate weight_decay = lr trust, or 0 without decay.
inline CatchUpMatrix<double> idle_lars(const UpdateRule& rule) {
  const double mu = rule.momentum, pull = rule.weight_decay > 0 ? double{rule.lr} * double{rule.trust} : 0;
  return {-pull, -mu, pull, mu};
}
/// One of adamw_update, but for what moves w along the first moment.
inline CatchUpMatrix<double> idle_adamw(const UpdateRule& rule) {
  return {-double{rule.lr} * double{rule.weight_decay}, 0, 0, rule.beta1};
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

/// What else a step of adamw_update with a gradient of zero does to a row: w -= rate m / (sqrt(v) root + epsilon),
/// behind m *= beta1 and sqrt(v) *= root_beta2. As it stands here a step does nothing.
struct CoastingStep {
  double rate = 0;  // lr / (1 - beta1^t), times what the decay of later steps leaves of it
  double root = 1;  // 1 / sqrt(1 - beta2^t)
  double epsilon = 1;
  double beta1 = 1, root_beta2 = 1;
};
static_assert(sizeof(CoastingStep) == 5 * sizeof(double));  // tables of them are tensors (n, 5)

/// Of update t = 1, 2, ..., with no later one.
inline CoastingStep coasting_step(const UpdateRule& rule, int64_t t) {
  CoastingStep step;
  step.rate = double{rule.lr} / (1 - whole_power(rule.beta1, t));
  step.root = 1 / std::sqrt(1 - whole_power(rule.beta2, t));
  step.epsilon = double{rule.epsilon};
  step.beta1 = rule.beta1;
  step.root_beta2 = std::sqrt(rule.beta2);
  return step;
}

/// A row on its way through steps without a gradient.
struct CoastingRow {
  double mean = 1;   // m, in units of what it was
  double root = 0;   // sqrt(v)
  double moved = 0;  // of w, in units of what m was: downwards
};
PLSC_HD_INLINE void coast(const CoastingStep& step, CoastingRow& row) {
  row.mean *= step.beta1;
  row.root *= step.root_beta2;
  row.moved += step.rate * row.mean / (row.root * step.root + step.epsilon);
}

}  // namespace plsc::math
