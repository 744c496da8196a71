// The last part of the search for nearest rows: the same bits as the CPU's twin, in the same order. And candidates that
// leave their own row out.
#include "kernels/cuda/neighbours.h"

#include <algorithm>
#include <limits>

#include "head_device.h"
#include "kernels/cpu/neighbours.h"

namespace plsc::test {
namespace {

namespace gpu = kernels::cuda;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

TEST_CASE("measured cosines have the bits of the CPU's, and other candidates stay as they are") {
  for (const int64_t columns : {1, 8, 31, 32, 33, 100, 513}) {
    constexpr int64_t kQueries = 5, kKeys = 9, kFirst = 1000, kList = 4;
    const auto queries = random_floats(kQueries * columns, 1), keys = random_floats(kKeys * columns, 2);
    // Before, in, behind the keys, and none.
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < kQueries; ++i) rows.insert(rows.end(), {kFirst + 2 * i, kFirst - 1, kFirst + kKeys, -1});
    std::vector<float> expected(rows.size(), 7.0F);
    for (size_t n = 0; n < rows.size(); ++n) {
      const int64_t key = rows[n] - kFirst;
      if (key < 0 || key >= kKeys) continue;
      const auto i = static_cast<int64_t>(n) / kList;
      expected[n] = kernels::fixed_order_dot(queries.data() + i * columns, keys.data() + key * columns, columns);
    }
    const OnDevice<float> q(queries), k(keys), cosines(std::vector<float>(rows.size(), 7.0F));
    const OnDevice<int64_t> ids(rows);
    gpu::measure_candidates({q.get(), k.get(), kFirst, kKeys, columns}, {cosines.get(), ids.get(), kQueries, kList},
                            stream());
    INFO(columns << " columns");
    CHECK(cosines.read() == expected);
  }
}

TEST_CASE("lists are sorted by cosine and row, places without a row last") {
  for (const int64_t k : {int64_t{1}, int64_t{7}, int64_t{300}, gpu::kMostTop}) {
    constexpr int64_t kQueries = 3;
    std::vector<float> values = random_floats(kQueries * k, 5);
    std::vector<int64_t> rows;
    for (int64_t n = 0; n < kQueries * k; ++n) {
      values[static_cast<size_t>(n)] = std::round(8 * values[static_cast<size_t>(n)]) / 8;  // many ties
      rows.push_back((n * 7919) % 100003);
      if (n % k < 5 || n % 3 != 0 || k == 1) continue;
      rows.back() = -1;
      values[static_cast<size_t>(n)] = kMinusInfinity;
    }
    std::vector<std::pair<float, int64_t>> order;
    for (size_t n = 0; n < rows.size(); ++n) order.emplace_back(-values[n], rows[n]);
    std::vector<float> expected;
    std::vector<int64_t> expected_rows;
    for (int64_t i = 0; i < kQueries; ++i) {
      std::sort(order.begin() + i * k, order.begin() + (i + 1) * k);
      for (int64_t n = i * k; n < (i + 1) * k; ++n) {
        expected.push_back(-order[static_cast<size_t>(n)].first);
        expected_rows.push_back(order[static_cast<size_t>(n)].second);
      }
    }
    const OnDevice<float> cosines(values);
    const OnDevice<int64_t> ids(rows);
    gpu::sort_candidates({cosines.get(), ids.get(), kQueries, k}, stream());
    INFO(k << " candidates");
    CHECK(ids.read() == expected_rows);
    CHECK(cosines.read() == expected);
  }
}

TEST_CASE("a query that is a row itself is not among its candidates") {
  constexpr int64_t kQueries = 4, kRows = 300, kList = 3, kOwn = 1250, kFirst = 1000;
  std::vector<float> dots(static_cast<size_t>(kQueries * kRows), 0.0F);
  for (int64_t i = 0; i < kQueries; ++i) {
    for (int64_t n = 0; n < 3; ++n) dots[static_cast<size_t>(i * kRows + kOwn - kFirst + i + n)] = 0.9F - 0.1F * n;
  }
  const OnDevice<float> there(dots), inverse(std::vector<float>(kRows, 1.0F)), cosines(kQueries * kList);
  const OnDevice<int64_t> ids(kQueries * kList);
  const gpu::TopLists lists{cosines.get(), ids.get(), kQueries, kList};
  gpu::start_top(lists, stream());
  gpu::TopTile tile{there.get(), inverse.get(), kFirst, kRows, kRows};
  tile.without_own = true;
  tile.own_row = kOwn;
  gpu::merge_top(tile, lists, stream());
  std::vector<int64_t> expected;
  for (int64_t i = 0; i < kQueries; ++i) expected.insert(expected.end(), {kOwn + i + 1, kOwn + i + 2, kFirst});
  CHECK(ids.read() == expected);
}

}  // namespace
}  // namespace plsc::test
