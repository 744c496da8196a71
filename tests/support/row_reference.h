// The optimizers on rows of class centres as a textbook writes them: in double, row by row, nothing of the product's
// kernels used but for the numbers of a rule. Adam's second moment is the row's (kernels/math/row_update.h says why).
#pragma once
#include <cmath>
#include <vector>

#include "kernels/math/update_rule.h"

namespace plsc::test {

struct ReferenceRows {
  math::UpdateRule rule;
  int64_t columns = 0;      // of a row
  std::vector<bool> takes;  // rows that take the step; empty: all

  /// Step number t = 1, 2, ...: gradient, w and v (rows, columns), second (rows).
  void step(const std::vector<double>& gradient, int64_t t, std::vector<double>& w, std::vector<double>& v,
            std::vector<double>& second) const {
    const auto d = static_cast<size_t>(columns);
    for (size_t row = 0; row < w.size() / d; ++row) {
      if (takes.empty() || takes[row])
        step_row(gradient.data() + row * d, t, w.data() + row * d, v.data() + row * d, second[row]);
    }
  }

 private:
  static double norm(const double* x, int64_t n) {
    double squares = 0;
    for (int64_t k = 0; k < n; ++k) squares += x[k] * x[k];
    return std::sqrt(squares);
  }
  void step_row(const double* g, int64_t t, double* w, double* v, double& second) const {
    const double lr = rule.lr, decay = rule.weight_decay, scale = rule.gradient_scale;
    if (rule.kind == math::UpdateKind::sgd || rule.kind == math::UpdateKind::lars) {
      const double below = scale * norm(g, columns) + decay * norm(w, columns);
      const bool lars = rule.kind == math::UpdateKind::lars, has_ratio = norm(w, columns) > 0 && below > 0;
      const double ratio = lars && has_ratio ? double{rule.trust} * norm(w, columns) / below : 1.0;
      for (int64_t k = 0; k < columns; ++k) {
        const double slope = scale * g[k] + decay * w[k];
        v[k] = double{rule.momentum} * v[k] + (lars ? lr * ratio : 1.0) * slope;
        w[k] -= lars ? v[k] : lr * (rule.nesterov ? slope + double{rule.momentum} * v[k] : v[k]);
      }
      return;
    }
    const double mean = std::pow(scale * norm(g, columns), 2) / static_cast<double>(columns);
    second = rule.beta2 * second + (1 - rule.beta2) * mean;
    const double n = static_cast<double>(t), root = std::sqrt(second / (1 - std::pow(rule.beta2, n)));
    std::vector<double> u;
    for (int64_t k = 0; k < columns; ++k) {
      v[k] = rule.beta1 * v[k] + (1 - rule.beta1) * scale * g[k];
      u.push_back(v[k] / (1 - std::pow(rule.beta1, n)) / (root + double{rule.epsilon}) + decay * w[k]);
    }
    const double w_norm = norm(w, columns), u_norm = norm(u.data(), columns);
    const bool lamb = rule.kind == math::UpdateKind::lamb && w_norm > 0 && u_norm > 0;
    for (int64_t k = 0; k < columns; ++k) w[k] -= lr * (lamb ? w_norm / u_norm : 1.0) * u[static_cast<size_t>(k)];
  }
};

/// Rules of all kinds, with numbers that show in a few steps.
inline math::UpdateRule row_rule(math::UpdateKind kind) {
  const bool adam = math::has_second_moment(kind);
  math::UpdateRule rule{.kind = kind, .lr = adam ? 0.02F : 0.2F, .weight_decay = 0.02F};
  if (adam) {
    rule.epsilon = 1e-8F;
    rule.beta1 = 0.9;
    rule.beta2 = 0.99;
    return rule;
  }
  rule.momentum = 0.9F;
  if (kind == math::UpdateKind::lars) rule.trust = 0.05F;
  return rule;
}

}  // namespace plsc::test
