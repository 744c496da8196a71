// The class graph on the device that the executable is for: that of brute force in double. And the rows that it is of,
// as a store has them: in bf16, in host memory, behind by some updates.
#include <cmath>

#include "head/neighbour_graph.h"
#include "head/row_store.h"
#include "support/catch.h"
#include "support/graph_cases.h"
#include "support/head_cases.h"
#include "support/head_context.h"

namespace plsc::test {
namespace {

TEST_CASE("the class graph is that of brute force, whatever the scores are computed in") {
  HeadContext rank(2);
  for (const int64_t columns : {16, 40}) {
    const GraphCase c = clustered_rows(400, columns, static_cast<uint64_t>(columns));
    const ClassShard shard = class_shard(c.classes, 1, 0);
    TensorRows rows = rows_of(rank.context.device(), c, shard);
    for (const int64_t k : {1, 12}) {
      for (const Dtype scores : score_types(rank.context.device())) {
        INFO(columns << " columns, " << k << " neighbours, " << dtype_name(scores));
        const auto graph = build_graph(rank.context, rows, shard, {k, scores}).values<int32_t>();
        CHECK(differences(c, graph, brute_force(c, k), k) == 0);
      }
    }
  }
}

TEST_CASE("few classes, and centres that are equal") {
  HeadContext rank;
  for (const int64_t classes : {1, 2, 130}) {
    GraphCase c = clustered_rows(classes, 8, 9);
    for (int64_t j = 1; j < classes; ++j) std::copy_n(c.rows.begin(), 8, c.rows.begin() + j * 8);
    const ClassShard shard = class_shard(classes, 1, 0);
    TensorRows rows = rows_of(rank.context.device(), c, shard);
    const auto graph = build_graph(rank.context, rows, shard, {3}).values<int32_t>();
    for (int32_t j = 0; j < classes; ++j) {
      for (int32_t n = 0; n < 3; ++n) {
        const int32_t next = n < j ? n : n + 1;
        CHECK(graph[static_cast<size_t>(j * 3 + n)] == (next < classes ? next : -1));
      }
    }
  }
}

constexpr int64_t kRows = 150, kColumns = 24, kQueries = 5;

Tensor index_of(Context& context, const std::vector<int64_t>& rows) {
  Tensor index = context.device().tensor({static_cast<int64_t>(rows.size())}, Dtype::i64);
  context.device().copy(Tensor::from(rows, index.shape()), index);
  return index;
}

/// A store of which every update has left some rows out.
RowStore lagging_rows(Context& context, Dtype type, bool on_host) {
  RowStore store(context, {.first_class = 1000,
                           .rows = kRows,
                           .columns = kColumns,
                           .type = type,
                           .momentum = type,
                           .on_host = on_host,
                           .lagging = true});
  store.init(context, 0.5F);
  const math::UpdateRule rule{.lr = 0.2F, .weight_decay = 0.01F, .momentum = 0.9F};
  for (int64_t t = 0; t < 6; ++t) {
    std::vector<int64_t> some;
    for (int64_t row = t; row < kRows; row += t + 1) some.push_back(row);
    const auto count = static_cast<int64_t>(some.size());
    RowStore::View rows = store.view(context, RowAccess::update, index_of(context, some));
    const Tensor gradient =
        to_device_tensor(context, random_values(count * kColumns, static_cast<uint64_t>(t)), {count, kColumns});
    context.backend.head->update_rows(rows, gradient, rule);
    store.finish_update(context, rule);
  }
  return store;
}

/// Rows of a view by the search's own reading, a few at a time.
std::vector<double> rows_read(Context& context, RowSource& rows) {
  std::vector<double> out;
  for (int64_t begin = 0; begin < rows.count(); begin += 37) {
    Tensor part = context.device().tensor({std::min<int64_t>(37, rows.count() - begin), rows.columns()});
    context.backend.neighbours->read_rows(rows, begin, part);
    const auto values = to_doubles(context, part);
    out.insert(out.end(), values.begin(), values.end());
  }
  return out;
}

/// (kQueries, rows) cosines of all rows of a view as the head reads them.
std::vector<double> cosines_of(Context& context, RowSource& rows, const std::vector<double>& queries) {
  const int64_t count = rows.count();
  HeadPass pass;
  pass.x = to_device_tensor(context, queries, {kQueries, kColumns});
  TopRows top{context.device().tensor({kQueries, count}), context.device().tensor({kQueries, count}, Dtype::i64)};
  context.backend.head->top_rows(rows, pass, top);
  const auto cosines = to_doubles(context, top.cosines);
  const Tensor places = context.device().start_read(top.rows)->get();
  std::vector<double> out(cosines.size());
  for (int64_t n = 0; n < places.elements(); ++n) {
    out[static_cast<size_t>(n / count * count + places.data<int64_t>()[n])] = cosines[static_cast<size_t>(n)];
  }
  return out;
}

TEST_CASE("rows are read as the head reads them, however they are stored and however far behind") {
  HeadContext rank(2);
  Context& context = rank.context;
  const auto queries = random_values(kQueries * kColumns, 77);
  for (const Dtype type : {Dtype::f32, Dtype::bf16}) {
    for (const bool on_host : {false, true}) {
      INFO(dtype_name(type) << (on_host ? " in host memory" : ""));
      RowStore store = lagging_rows(context, type, on_host);
      RowStore::View all = store.view(context, RowAccess::read);
      const auto read = rows_read(context, all), cosines = cosines_of(context, all, queries);
      double furthest = 0;
      for (int64_t i = 0; i < kQueries; ++i) {
        const double* x = queries.data() + i * kColumns;
        for (int64_t j = 0; j < kRows; ++j) {
          const double* w = read.data() + j * kColumns;
          double dot = 0, squares = 0;
          for (int64_t d = 0; d < kColumns; ++d) dot += x[d] * w[d], squares += w[d] * w[d];
          furthest =
              std::max(furthest, std::abs(dot / std::sqrt(squares) - cosines[static_cast<size_t>(i * kRows + j)]));
        }
      }
      // Cosines times |x| < sqrt(24) are below 5, in fp32, of sums of 24.
      CHECK(furthest < 5e-6);

      // Without what they missed they would be other rows: the first, of all updates but the last five.
      const RowTile tile = all.open(0, kRows, RowAccess::read);
      CHECK(tile.lag.last_update != nullptr);
      CHECK((tile.weight_type == type && tile.far == (on_host && !context.device().is_host())));
      all.close(tile, RowAccess::read);
      if (type == Dtype::f32 && !on_host) {
        const auto stored = to_doubles(context, store.state(context)[0].second);
        double moved = 0;
        for (int64_t d = 0; d < kColumns; ++d)
          moved = std::max(moved, std::abs(read[static_cast<size_t>(d)] - stored[static_cast<size_t>(d)]));
        CHECK(moved > 0.01);
      }

      // Some of them, as a probe's queries are: the same bits.
      const std::vector<int64_t> some{0, 3, 40, 41, 149};
      RowStore::View few = store.view(context, RowAccess::read, index_of(context, some));
      std::vector<double> expected;
      for (const int64_t row : some) {
        expected.insert(expected.end(), read.begin() + row * kColumns, read.begin() + (row + 1) * kColumns);
      }
      CHECK(rows_read(context, few) == expected);
    }
  }
}

}  // namespace
}  // namespace plsc::test
