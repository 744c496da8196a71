// Small head problems for tests: random embeddings, labels and class centres, and access to a head's rows.
#pragma once
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "head/margin_head.h"
#include "kernels/math/rng.h"
#include "support/head_reference.h"

namespace plsc::test {

/// Uniform in [-1, 1), rounded to fp32, a function of (stream, i).
inline std::vector<double> random_values(int64_t count, uint64_t stream) {
  std::vector<double> out;
  for (int64_t i = 0; i < count; ++i) {
    const auto r = math::random4(11, math::Draw::synthetic, stream, static_cast<uint64_t>(i));
    out.push_back(static_cast<double>(2 * math::to_unit_float(r.x[0]) - 1));
  }
  return out;
}
inline std::vector<int64_t> random_labels(int64_t count, int64_t classes, uint64_t stream) {
  std::vector<int64_t> out;
  for (int64_t i = 0; i < count; ++i) {
    out.push_back(static_cast<int64_t>(math::random64(12, math::Draw::synthetic, stream, static_cast<uint64_t>(i)) %
                                       static_cast<uint64_t>(classes)));
  }
  return out;
}

inline Tensor to_tensor(const std::vector<double>& values, Shape shape) {
  return Tensor::from(std::vector<float>(values.begin(), values.end()), shape);
}
inline std::vector<double> to_doubles(const Tensor& t) {
  const auto s = t.span<float>();
  return {s.begin(), s.end()};
}

/// The same in memory of the context's device, whatever that is, and back.
inline Tensor to_device_tensor(Context& context, const std::vector<double>& values, Shape shape) {
  Tensor t = context.device().tensor(shape);
  context.device().copy(to_tensor(values, shape), t);
  return t;
}
inline std::vector<double> to_doubles(Context& context, const Tensor& t) {
  return to_doubles(context.device().start_read(t)->get());
}
/// Overwrites a tensor of the context's device.
inline void set_values(Context& context, Tensor to, const std::vector<double>& values) {
  context.device().copy(to_tensor(values, to.shape()), to);
}

/// A head with its first values.
inline std::unique_ptr<MarginHead> drawn_head(Context& context, const HeadConfig& config, int64_t classes,
                                              int64_t columns) {
  auto head = make_margin_head(context, config, classes, columns);
  head->init();
  return head;
}

/// A head's tensor by name ("centers", "momentum", "last_update"), sharing its storage.
inline Tensor head_rows(MarginHead& head, const std::string& name) {
  for (const HeadRows& rows : head.state()) {
    if (rows.name == name) return rows.rows;
  }
  return {};
}

/// Columns of a class's row as a checkpoint has it: a linear head's bias is the one behind the weights, then zeros.
inline int64_t row_columns(const HeadConfig& config, int64_t columns) {
  return columns + (config.kind == "linear" ? 8 : 0);
}

/// The largest difference, in units of the largest reference value (at least `floor`).
inline double relative_error(const std::vector<double>& got, const std::vector<double>& expected,
                             double floor = 1e-30) {
  double difference = got.size() == expected.size() ? 0 : INFINITY, largest = floor;
  for (size_t i = 0; i < std::min(got.size(), expected.size()); ++i) {
    if (!std::isfinite(got[i])) return INFINITY;
    difference = std::max(difference, std::abs(got[i] - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  return difference / largest;
}

/// What a HeadConfig says, for the reference.
inline ReferenceHead reference_of(const HeadConfig& config, int64_t classes, int64_t columns) {
  ReferenceHead head;
  head.classes = classes;
  head.columns = columns;
  head.scale = config.scale;
  head.filter = config.interclass_filter;
  if (config.kind == "d_softmax") {
    head.termination = config.termination;
    return head;
  }
  const MarginConfig& m = config.margin;
  if (m.name == "arcface") head.m2 = 0.5;
  if (m.name == "cosface") head.m3 = 0.4;
  if (m.name == "sphereface") head.m1 = 1.35;
  if (m.name == "custom") head.m1 = m.m1, head.m2 = m.m2, head.m3 = m.m3;
  head.straight_through = config.gradient == "straight_through";
  return head;
}

/// The classes that uniform sampling takes in a step, by the rule of the design.
inline std::vector<bool> sampled_classes(uint64_t seed, int64_t step, int64_t classes, double ratio,
                                         const std::vector<int64_t>& labels) {
  std::vector<bool> active(static_cast<size_t>(classes), false);
  for (int64_t label : labels) active[static_cast<size_t>(label)] = true;
  const auto positives = static_cast<double>(std::count(active.begin(), active.end(), true));
  const auto c = static_cast<double>(classes);
  const double threshold = positives < c ? std::max(0.0, (ratio * c - positives) / (c - positives)) : 0;
  for (int64_t j = 0; j < classes; ++j) {
    const auto r =
        math::random4(seed, math::Draw::class_sample, static_cast<uint64_t>(step), static_cast<uint64_t>(j / 4));
    if (r.x[j % 4] / 4294967296.0 < threshold) active[static_cast<size_t>(j)] = true;
  }
  return active;
}

}  // namespace plsc::test
