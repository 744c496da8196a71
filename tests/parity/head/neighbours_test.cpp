// The class graph on the device that the executable is for: that of brute force in double.
#include "head/neighbour_graph.h"
#include "support/catch.h"
#include "support/graph_cases.h"
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
      for (const Dtype scores : {Dtype::f32, Dtype::bf16}) {
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

}  // namespace
}  // namespace plsc::test
