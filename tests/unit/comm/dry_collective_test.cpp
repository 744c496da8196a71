// Ranks that are not there: host values are as if every rank had this rank's.
#include "comm/dry_collective.h"

#include <algorithm>

#include "support/catch.h"

using namespace plsc;

namespace {

std::unique_ptr<Collective> three_ranks() { return make_dry_collective({3, false, {}, {}, {}}); }

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

TEST_CASE("dry collective: what is told of a collective, when it starts and when it is waited for") {
  std::vector<DryTraffic> started;
  std::vector<int64_t> waited;
  double buffers = 0, most = 0;
  const auto ranks = make_dry_collective({4, true,
                                          [&](const DryTraffic& traffic) {
                                            started.push_back(traffic);
                                            return static_cast<int64_t>(started.size());
                                          },
                                          [&](int64_t number) { waited.push_back(number); },
                                          [&](double bytes) { most = std::max(most, buffers += bytes); }});
  Tensor whole(host_allocator(), {8}, Dtype::f32), part(host_allocator(), {2}, Dtype::f32);
  Pending reduce = ranks->start_all_reduce(whole, ReduceOp::sum);
  Pending gather = ranks->start_all_gather(part, whole);
  Pending scatter = ranks->start_reduce_scatter(whole, part);
  ranks->wait(std::move(scatter), "scatter");
  ranks->wait(std::move(reduce), "reduce");
  ranks->wait(std::move(gather), "gather");
  CHECK(waited == std::vector<int64_t>{3, 1, 2});
  REQUIRE(started.size() == 3);
  for (const DryTraffic& traffic : started) CHECK(traffic.bytes == 32);
  // Each rank sums its part and spreads it: 8 bytes to each of three, twice.
  CHECK(started[0].sent() == 48);
  CHECK(started[1].sent() == 24);
  CHECK(started[2].sent() == 24);
  // Both reductions receive as much as they sum, until they are waited for.
  CHECK(most == 48);
  CHECK(buffers == 0);
  CHECK(ranks->bytes_sent() == 96);
  ranks->barrier();
  CHECK(started.size() == 3);
  // Half of it, and nothing is rounded of what is not there.
  ranks->wait(ranks->start_all_reduce_bf16(whole), "narrow");
  CHECK(started.back().bytes == 16);
  CHECK(ranks->bytes_sent() == 96 + 24);
}

TEST_CASE("dry collective: over MPI a small all-reduce is one exchange of everything") {
  std::vector<DryTraffic> started;
  DryWorld world;
  world.ranks = 4;
  world.starts = [&](const DryTraffic& traffic) {
    started.push_back(traffic);
    return int64_t{0};
  };
  world.mpi = true;
  double most = 0;
  world.buffers = [&](double bytes) { most = std::max(most, bytes); };
  const auto ranks = make_dry_collective(world);
  Tensor small(host_allocator(), {4096}, Dtype::f32), large(host_allocator(), {4100}, Dtype::f32);
  ranks->all_reduce(small, ReduceOp::sum);
  CHECK(most == 3 * 16384);
  ranks->all_reduce(large, ReduceOp::sum);
  REQUIRE(started.size() == 2);
  CHECK(started[0].sent() == 3 * 16384);
  CHECK(started[0].messages() == 3);
  CHECK(started[1].sent() == 2 * 3 * 4100);
  CHECK(started[1].messages() == 6);
}

TEST_CASE("dry collective: a group sends what a ring of its ranks would") {
  double sent = 0;
  const auto six = make_dry_collective({6,
                                        true,
                                        [&](const DryTraffic& traffic) {
                                          sent += traffic.sent();
                                          return int64_t{0};
                                        },
                                        {},
                                        {}});
  const auto host = make_dry_collective({6, false, {}, {}, {}});
  const auto two = six->split(2, *host);
  CHECK(two->size() == 2);
  Tensor t(host_allocator(), {30}, Dtype::f64);
  six->all_reduce(t, ReduceOp::sum);
  CHECK(sent == 2 * 240 * 5.0 / 6);
  sent = 0;
  two->all_reduce(t, ReduceOp::sum);
  CHECK(sent == 2 * 240 / 2.0);
}
