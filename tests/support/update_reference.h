// Optimizers in double precision, written from their papers' formulas and not from kernels/math: one tensor's state and
// its update. The rate, the decay and the gradient (clipped, without a loss scale) are given with each step.
#pragma once
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace plsc::test {

struct ReferenceSettings {
  std::string name;  // sgd | adamw | lars | lamb
  double momentum = 0.9, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, trust = 0.001;
};

class ReferenceUpdate {
 public:
  explicit ReferenceUpdate(std::vector<double> values) : w(std::move(values)), m(w.size()), v(w.size()) {}

  void step(const ReferenceSettings& s, double lr, double decay, bool by_layer, const std::vector<double>& g) {
    ++steps_;
    if (s.name == "sgd" || s.name == "lars") {
      const double ratio = s.name == "lars" && by_layer ? lars_ratio(s, decay, g) : 1;
      for (size_t i = 0; i < w.size(); ++i) {
        const double move = g[i] + decay * w[i];
        // LARS has its rate inside the momentum, SGD as PyTorch has it outside.
        m[i] = s.momentum * m[i] + (s.name == "lars" ? lr * ratio : 1.0) * move;
        w[i] -= (s.name == "lars" ? 1.0 : lr) * m[i];
      }
      return;
    }
    std::vector<double> u(w.size());
    for (size_t i = 0; i < w.size(); ++i) {
      m[i] = s.beta1 * m[i] + (1 - s.beta1) * g[i];
      v[i] = s.beta2 * v[i] + (1 - s.beta2) * g[i] * g[i];
      const double mean = m[i] / (1 - std::pow(s.beta1, steps_)), square = v[i] / (1 - std::pow(s.beta2, steps_));
      u[i] = mean / (std::sqrt(square) + s.epsilon) + decay * w[i];
    }
    const double ratio = s.name == "lamb" && by_layer && length(w) > 0 && length(u) > 0 ? length(w) / length(u) : 1;
    for (size_t i = 0; i < w.size(); ++i) w[i] -= lr * ratio * u[i];
  }

  std::vector<double> w, m, v;

 private:
  static double length(const std::vector<double>& x) {
    double sum = 0;
    for (const double e : x) sum += e * e;
    return std::sqrt(sum);
  }
  double lars_ratio(const ReferenceSettings& s, double decay, const std::vector<double>& g) const {
    const double denominator = length(g) + decay * length(w);
    return length(w) > 0 && denominator > 0 ? s.trust * length(w) / denominator : 1;
  }
  int steps_ = 0;
};

}  // namespace plsc::test
