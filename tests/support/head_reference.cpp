#include "support/head_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace plsc::test {
namespace {

constexpr double kPi = 3.141592653589793;

double rounded_to_bf16(double x) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int shift = 8 - std::ilogb(x) - 1;  // eight significant bits
  return std::ldexp(std::nearbyint(std::ldexp(static_cast<double>(static_cast<float>(x)), shift)), -shift);
}

double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t d = 0; d < n; ++d) sum += a[d] * b[d];
  return sum;
}

struct Unit {
  std::vector<double> rows, norms;  // norms are at least 1e-12
  std::vector<bool> short_row;
};
Unit unit_rows(const std::vector<double>& x, int64_t columns) {
  Unit out{x, {}, {}};
  for (size_t i = 0; i < x.size(); i += static_cast<size_t>(columns)) {
    const double norm = std::sqrt(dot(&x[i], &x[i], columns));
    out.short_row.push_back(norm < 1e-12);
    out.norms.push_back(std::max(norm, 1e-12));
    for (int64_t d = 0; d < columns; ++d) out.rows[i + static_cast<size_t>(d)] /= out.norms.back();
  }
  return out;
}

/// The gradient with respect to x from that with respect to x / |x|.
void through_normalisation(const Unit& unit, int64_t columns, std::vector<double>& gradient) {
  for (size_t i = 0; i < unit.norms.size(); ++i) {
    double* g = &gradient[i * static_cast<size_t>(columns)];
    const double* y = &unit.rows[i * static_cast<size_t>(columns)];
    const double along = unit.short_row[i] ? 0.0 : dot(g, y, columns);
    for (int64_t d = 0; d < columns; ++d) g[d] = (g[d] - along * y[d]) / unit.norms[i];
  }
}

/// The target's logit over scale, and its derivative, by walking the branches of theta.
std::pair<double, double> target_margin(const ReferenceHead& head, double cosine) {
  const double theta = std::acos(cosine), phi = head.m1 * theta + head.m2;
  if (head.straight_through) return {std::cos(phi) - head.m3, 1.0};
  if (head.m1 == 1 && head.m2 == 0) return {cosine - head.m3, 1.0};
  double offset = 0, sign = 1, rest = phi;
  while (rest >= kPi) {
    rest -= kPi;
    sign = -sign;
    offset -= 2;
  }
  const double slope = sign * head.m1 * std::sin(phi) / std::max(std::sin(theta), 1e-3);
  return {sign * std::cos(phi) + offset - head.m3, slope};
}

/// One sample's logits and their derivatives with respect to the cosines.
struct Row {
  std::vector<double> z, dz;
};
/// One sample's loss, and its derivatives with respect to the logits.
struct Loss {
  double loss = 0, intra = 0;
  std::vector<double> slopes;
};
Loss softmax(const std::vector<double>& z, size_t y) {
  double largest = z[y], sum = 0;
  for (double value : z) largest = std::max(largest, value);
  for (double value : z) sum += std::exp(value - largest);
  const double log_sum = largest + std::log(sum);
  Loss out{log_sum - z[y], 0, {}};
  for (double value : z) out.slopes.push_back(std::exp(value - log_sum));
  out.slopes[y] -= 1;
  return out;
}
/// As the paper writes it; exponents up to 709 are no matter in double. `end`: the target's logit at termination.
Loss dissected(const std::vector<double>& z, size_t y, double end) {
  const double intra = std::exp(end) / std::exp(z[y]);
  double inter = 0;
  for (size_t k = 0; k < z.size(); ++k) inter += k == y ? 0 : std::exp(z[k]);
  Loss out{std::log1p(intra) + std::log1p(inter), std::log1p(intra), {}};
  for (double value : z) out.slopes.push_back(std::exp(value) / (1 + inter));
  out.slopes[y] = -intra / (1 + intra);
  return out;
}

}  // namespace

ReferenceStep reference_step(const ReferenceHead& head, const std::vector<double>& embeddings,
                             const std::vector<int64_t>& labels, const std::vector<double>& weights,
                             double gradient_scale) {
  const int64_t columns = head.columns;
  const auto samples = static_cast<int64_t>(labels.size());
  const Unit x = unit_rows(embeddings, columns), w = unit_rows(weights, columns);
  std::vector<double> x_operand = x.rows, w_operand = w.rows;
  if (head.bf16_operands) {
    for (double& v : x_operand) v = rounded_to_bf16(v);
    for (size_t i = 0; i < weights.size(); ++i) {
      w_operand[i] = rounded_to_bf16(weights[i]) / w.norms[i / static_cast<size_t>(columns)];
    }
  }
  ReferenceStep out;
  out.d_embedding.assign(embeddings.size(), 0);
  out.d_weight.assign(weights.size(), 0);
  for (int64_t i = 0; i < samples; ++i) {
    const int64_t y = labels[static_cast<size_t>(i)];
    Row row;
    double best_negative = -std::numeric_limits<double>::infinity(), target_cosine = 0;
    for (int64_t j = 0; j < head.classes; ++j) {
      const bool target = j == y;
      const bool active = head.active.empty() || head.active[static_cast<size_t>(j)];
      const auto& xs = target ? x.rows : x_operand;
      const auto& ws = target ? w.rows : w_operand;
      const double raw = dot(&xs[static_cast<size_t>(i * columns)], &ws[static_cast<size_t>(j * columns)], columns);
      const double c = std::clamp(raw, -1.0, 1.0);
      double z = head.scale * c, dz = raw < -1 || raw > 1 ? 0 : head.scale;
      if (!active) {
        z = -std::numeric_limits<double>::infinity();
        dz = 0;
      } else if (target) {
        const auto [f, slope] = target_margin(head, c);
        z = head.scale * f;
        dz *= slope;
        target_cosine = raw;
      } else {
        best_negative = std::max(best_negative, raw);
        if (head.filter && c > *head.filter) z = dz = 0;
      }
      row.z.push_back(z);
      row.dz.push_back(dz);
    }
    const auto target = static_cast<size_t>(y);
    const Loss loss =
        head.termination ? dissected(row.z, target, head.scale * *head.termination) : softmax(row.z, target);
    out.losses.push_back(loss.loss);
    out.loss_sum += loss.loss;
    out.intra_sum += loss.intra;
    out.correct += target_cosine > best_negative;
    for (int64_t j = 0; j < head.classes; ++j) {
      const double g = gradient_scale * loss.slopes[static_cast<size_t>(j)] * row.dz[static_cast<size_t>(j)];
      for (int64_t d = 0; d < columns; ++d) {
        const auto xi = static_cast<size_t>(i * columns + d), wj = static_cast<size_t>(j * columns + d);
        out.d_embedding[xi] += g * w_operand[wj];
        out.d_weight[wj] += g * x_operand[xi];
      }
    }
  }
  through_normalisation(x, columns, out.d_embedding);
  through_normalisation(w, columns, out.d_weight);
  return out;
}

ReferenceStep reference_step(const ReferenceLinear& head, const std::vector<double>& embeddings,
                             const std::vector<int64_t>& labels, const LinearWeights& weights, double gradient_scale) {
  const int64_t columns = head.columns;
  LinearWeights operand = weights;
  std::vector<double> x_operand = embeddings;
  if (head.bf16_operands) {
    for (auto* values : {&operand.weight, &operand.bias, &x_operand}) {
      for (double& v : *values) v = rounded_to_bf16(v);
    }
  }
  ReferenceStep out;
  out.d_embedding.assign(embeddings.size(), 0);
  out.d_weight.assign(weights.weight.size(), 0);
  out.d_bias.assign(weights.bias.size(), 0);
  for (size_t i = 0; i < labels.size(); ++i) {
    const auto y = static_cast<size_t>(labels[i]), xi = i * static_cast<size_t>(columns);
    std::vector<double> z(static_cast<size_t>(head.classes));
    double best_negative = -std::numeric_limits<double>::infinity();
    for (size_t j = 0; j < z.size(); ++j) {
      const LinearWeights& from = j == y ? weights : operand;
      const double* x = j == y ? &embeddings[xi] : &x_operand[xi];
      const bool active = head.active.empty() || head.active[j];
      z[j] = active ? dot(x, &from.weight[j * static_cast<size_t>(columns)], columns) + from.bias[j]
                    : -std::numeric_limits<double>::infinity();
      if (j != y) best_negative = std::max(best_negative, z[j]);
    }
    const double largest = std::max(best_negative, z[y]);
    double sum = 0;
    for (double value : z) sum += std::exp(value - largest);
    out.losses.push_back(largest + std::log(sum) - z[y]);
    out.loss_sum += out.losses.back();
    out.correct += z[y] > best_negative;
    for (size_t j = 0; j < z.size(); ++j) {
      const double g = gradient_scale * (std::exp(z[j] - largest) / sum - (j == y ? 1 : 0));
      out.d_bias[j] += g;
      for (size_t d = 0; d < static_cast<size_t>(columns); ++d) {
        const size_t wj = j * static_cast<size_t>(columns) + d;
        out.d_embedding[xi + d] += g * operand.weight[wj];
        out.d_weight[wj] += g * x_operand[xi + d];
      }
    }
  }
  return out;
}

void ReferenceSgd::step(const std::vector<double>& gradient, std::vector<double>& w, std::vector<double>& v) const {
  for (size_t i = 0; i < w.size(); ++i) {
    const double g = gradient[i] + weight_decay * w[i];
    v[i] = momentum * v[i] + g;
    w[i] -= lr * (nesterov ? g + momentum * v[i] : v[i]);
  }
}

}  // namespace plsc::test
