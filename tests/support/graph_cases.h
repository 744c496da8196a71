// Class centres for the tests of the class graph, and the graph by brute force in double.
#pragma once
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "backend/device.h"
#include "backend/tensor_rows.h"
#include "base/threads.h"
#include "head/margin_head.h"
#include "kernels/math/rng.h"
#include "support/cpu_context.h"

namespace plsc::test {

struct GraphCase {
  int64_t classes = 0, columns = 0;
  std::vector<float> rows;
};

/// Families of some thirty classes about a common direction, as trained centres have them; lengths differ.
inline GraphCase clustered_rows(int64_t classes, int64_t columns, uint64_t seed) {
  GraphCase c{classes, columns, std::vector<float>(static_cast<size_t>(classes * columns))};
  const auto uniform = [&](uint64_t draw, int64_t at) {
    const auto r = math::random4(seed, math::Draw::synthetic, draw, static_cast<uint64_t>(at));
    return 2 * math::to_unit_float(r.x[0]) - 1;
  };
  for (int64_t j = 0; j < classes; ++j) {
    const int64_t family = j * 7919 % (classes / 30 + 1);
    const float length = 0.5F + std::abs(uniform(2, j));
    for (int64_t d = 0; d < columns; ++d) {
      c.rows[static_cast<size_t>(j * columns + d)] =
          length * (0.7F * uniform(0, family * columns + d) + uniform(1, j * columns + d));
    }
  }
  return c;
}

/// A rank's rows in memory of its device.
inline TensorRows rows_of(Device& device, const GraphCase& c, const ClassShard& shard) {
  Tensor rows = device.tensor({shard.size(), c.columns});
  const auto begin = c.rows.begin() + shard.begin * c.columns;
  device.copy(Tensor::from(std::vector<float>(begin, begin + rows.elements()), rows.shape()), rows);
  return TensorRows(rows);
}

/// What a search's products can be in here: a CPU without bf16 instructions has none of it.
inline std::vector<Dtype> score_types(const Device& device) {
  if (!device.supports(Dtype::bf16)) return {Dtype::f32};
  return {Dtype::f32, Dtype::bf16};
}
inline std::vector<Dtype> score_types() {
  const CpuContext cpu;
  return score_types(*cpu.backend.device);
}

inline std::vector<double> unit_rows(const GraphCase& c) {
  std::vector<double> unit(c.rows.begin(), c.rows.end());
  for (int64_t j = 0; j < c.classes; ++j) {
    double squares = 0;
    double* row = unit.data() + j * c.columns;
    for (int64_t d = 0; d < c.columns; ++d) squares += row[d] * row[d];
    for (int64_t d = 0; d < c.columns; ++d) row[d] /= std::max(std::sqrt(squares), 1e-12);
  }
  return unit;
}

inline double cosine(const GraphCase& c, const std::vector<double>& unit, int64_t a, int64_t b) {
  double sum = 0;
  for (int64_t d = 0; d < c.columns; ++d) {
    sum += unit[static_cast<size_t>(a * c.columns + d)] * unit[static_cast<size_t>(b * c.columns + d)];
  }
  return sum;
}

/// (classes, k): nearest first, ties by class, -1 where there are no more.
inline std::vector<int32_t> brute_force(const GraphCase& c, int64_t k) {
  const std::vector<double> unit = unit_rows(c);
  std::vector<int32_t> out(static_cast<size_t>(c.classes * k), -1);
  parallel_ranges(c.classes, available_cores(), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      std::vector<std::pair<double, int32_t>> all;
      for (int64_t j = 0; j < c.classes; ++j) {
        if (j != i) all.emplace_back(-cosine(c, unit, i, j), static_cast<int32_t>(j));
      }
      const auto kept = std::min(k, static_cast<int64_t>(all.size()));
      std::partial_sort(all.begin(), all.begin() + kept, all.end());
      for (int64_t n = 0; n < kept; ++n) out[static_cast<size_t>(i * k + n)] = all[static_cast<size_t>(n)].second;
    }
  });
  return out;
}

/// Places where `graph` has another class than `expected`, though their cosines in double differ by more than fp32 can
/// tell: a dot product of unit rows in fp32 is off by less than 2^-24 sqrt(D) and the rows by 2^-24 each.
inline int64_t differences(const GraphCase& c, const std::vector<int32_t>& graph, const std::vector<int32_t>& expected,
                           int64_t k) {
  constexpr double kTie = 1e-6;
  const std::vector<double> unit = unit_rows(c);
  int64_t count = static_cast<int64_t>(graph.size()) - static_cast<int64_t>(expected.size());
  for (size_t n = 0; n < std::min(graph.size(), expected.size()); ++n) {
    if (graph[n] == expected[n]) continue;
    const int64_t own = static_cast<int64_t>(n) / k;
    const bool tie = graph[n] >= 0 && graph[n] != own && expected[n] >= 0 &&
                     std::abs(cosine(c, unit, own, graph[n]) - cosine(c, unit, own, expected[n])) < kTie;
    if (!tie) ++count;
  }
  return count;
}

/// The part of the expected neighbours that `graph` has, at whatever place.
inline double recall(const std::vector<int32_t>& graph, const std::vector<int32_t>& expected, int64_t k) {
  int64_t found = 0;
  for (size_t begin = 0; begin < expected.size(); begin += static_cast<size_t>(k)) {
    for (size_t n = begin; n < begin + static_cast<size_t>(k); ++n) {
      const auto list = graph.begin() + static_cast<int64_t>(begin);
      found += std::find(list, list + k, expected[n]) != list + k ? 1 : 0;
    }
  }
  return static_cast<double>(found) / static_cast<double>(expected.size());
}

}  // namespace plsc::test
