// Ranks that are not there: host values are as if every rank had this rank's.
#include "comm/dry_collective.h"

#include "support/catch.h"

using namespace plsc;

namespace {

std::unique_ptr<Collective> three_ranks() { return make_dry_collective({3, false, {}, {}}); }

std::vector<int64_t> values(const Tensor& t) {
  const auto all = t.span<int64_t>();
  return {all.begin(), all.end()};
}

}  // namespace

TEST_CASE("dry collective: host values are reduced over ranks that all have them") {
  const auto ranks = three_ranks();
  const std::vector<int64_t> own{5, -1, 7, 0, 2, 4};
  const auto reduced = [&](ReduceOp op) {
    Tensor t = Tensor::from(own, {6});
    ranks->all_reduce(t, op);
    return values(t);
  };
  CHECK(reduced(ReduceOp::sum) == std::vector<int64_t>{15, -3, 21, 0, 6, 12});
  CHECK(reduced(ReduceOp::max) == own);
  CHECK(reduced(ReduceOp::min) == own);
  Tensor part(host_allocator(), {2}, Dtype::i64);
  ranks->reduce_scatter(Tensor::from(own, {6}), part);
  CHECK(values(part) == std::vector<int64_t>{15, -3});
}

TEST_CASE("dry collective: host values are gathered and told") {
  const auto ranks = three_ranks();
  CHECK(gather_values(*ranks, int64_t{4}) == std::vector<int64_t>{4, 4, 4});
  Tensor told = Tensor::from(std::vector<int64_t>{1, 2}, {2});
  ranks->broadcast(told, 0);
  CHECK(values(told) == std::vector<int64_t>{1, 2});
}

TEST_CASE("dry collective: a group sends what a ring of its ranks would") {
  double sent = 0;
  const auto six = make_dry_collective({6, true, [&](double bytes) { sent += bytes; }, {}});
  const auto host = make_dry_collective({6, false, {}, {}});
  const auto two = six->split(2, *host);
  CHECK(two->size() == 2);
  Tensor t(host_allocator(), {30}, Dtype::f64);
  six->all_reduce(t, ReduceOp::sum);
  CHECK(sent == 2 * 240 * 5.0 / 6);
  sent = 0;
  two->all_reduce(t, ReduceOp::sum);
  CHECK(sent == 2 * 240 / 2.0);
}
