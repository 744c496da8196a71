// Every collective over real ranks (any number of them): sizes that do not divide, empty ones, ones that go in slabs,
// many at once on two communicators. Values are whole numbers below 2^24, so that even float sums are exact.
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "base/threads.h"
#include "dist/mpi_main.h"
#include "kernels/math/bf16.h"
#include "support/catch.h"
#include "support/narrow_sums.h"

using namespace plsc;

namespace {

/// What rank r holds at element i.
int64_t value(int64_t r, int64_t i) { return (i * 7 + r * 31) % 50; }

template <class T>
Tensor filled(int rank, int64_t n) {
  Tensor t(host_allocator(), {n}, DtypeOf<T>::value);
  for (int64_t i = 0; i < n; ++i) t.data<T>()[i] = static_cast<T>(value(rank, i));
  return t;
}

/// The element that a reduction over all ranks gives.
int64_t reduced(int ranks, int64_t i, ReduceOp op) {
  int64_t all = value(0, i);
  for (int r = 1; r < ranks; ++r) {
    const int64_t v = value(r, i);
    all = op == ReduceOp::sum ? all + v : op == ReduceOp::max ? std::max(all, v) : std::min(all, v);
  }
  return all;
}

/// The first element of t that is not expected(i); -1 when all are.
template <class T, class Expected>
int64_t first_wrong(const Tensor& t, const Expected& expected) {
  for (int64_t i = 0; i < t.elements(); ++i) {
    if (t.data<T>()[i] != static_cast<T>(expected(i))) return i;
  }
  return -1;
}

// 1: fewer than ranks. 4097: just over the small form's 16 KiB in f32. 70001: over 2^16. The slab is 16 MiB.
const std::vector<int64_t> kSizes{0, 1, 2, 3, 5, 64, 1000, 4096, 4097, 70001};

template <class T>
void check_reductions(Collective& comm) {
  for (const int64_t n : kSizes) {
    for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max, ReduceOp::min}) {
      INFO(dtype_name(DtypeOf<T>::value) << ", " << n << " elements, op " << static_cast<int>(op));
      Tensor t = filled<T>(comm.rank(), n);
      comm.all_reduce(t, op);
      CHECK(first_wrong<T>(t, [&](int64_t i) { return reduced(comm.size(), i, op); }) == -1);
    }
    INFO(dtype_name(DtypeOf<T>::value) << ", " << n << " elements a share");
    const Tensor from = filled<T>(comm.rank(), n * comm.size());
    Tensor to(host_allocator(), {n}, from.dtype());
    comm.reduce_scatter(from, to);
    const int64_t first = n * comm.rank();
    CHECK(first_wrong<T>(to, [&](int64_t i) { return reduced(comm.size(), first + i, ReduceOp::sum); }) == -1);
  }
}

template <class T>
void check_copies(Collective& comm) {
  for (const int64_t n : kSizes) {
    INFO(dtype_name(DtypeOf<T>::value) << ", " << n << " elements");
    Tensor all(host_allocator(), {comm.size(), n}, DtypeOf<T>::value);
    comm.all_gather(filled<T>(comm.rank(), n), all);
    CHECK(first_wrong<T>(all, [&](int64_t i) { return value(i / n, i % n); }) == -1);
    for (int root = 0; root < comm.size(); ++root) {
      Tensor t = filled<T>(comm.rank(), n);
      comm.broadcast(t, root);
      CHECK(first_wrong<T>(t, [&](int64_t i) { return value(root, i); }) == -1);
    }
  }
}

}  // namespace

TEST_CASE("reductions of every type and size") {
  for (Collective* comm : {&test::world().device_collective(), &test::world().host_collective()}) {
    check_reductions<float>(*comm);
    check_reductions<double>(*comm);
    check_reductions<int64_t>(*comm);
    check_reductions<int32_t>(*comm);
    check_reductions<uint8_t>(*comm);  // at most 50 a rank: no overflow with four
  }
}

TEST_CASE("gathers and broadcasts of every type and size") {
  Collective& comm = test::world().device_collective();
  check_copies<float>(comm);
  check_copies<double>(comm);
  check_copies<int64_t>(comm);
  check_copies<int32_t>(comm);
  check_copies<uint8_t>(comm);
}

TEST_CASE("a gather in place: the rank's share stands where it belongs already") {
  Collective& comm = test::world().device_collective();
  Tensor all(host_allocator(), {comm.size(), 37}, Dtype::f32);
  const Tensor own = all.rows(comm.rank(), 1);
  for (int64_t i = 0; i < 37; ++i) own.data<float>()[i] = static_cast<float>(value(comm.rank(), i));
  comm.all_gather(own, all);
  CHECK(first_wrong<float>(all, [&](int64_t i) { return value(i / 37, i % 37); }) == -1);
}

TEST_CASE("large tensors, in several slabs") {
  Collective& comm = test::world().device_collective();
  const int64_t n = 9'000'011;  // 34 MiB: three slabs, the last one short
  Tensor t = filled<float>(comm.rank(), n);
  comm.all_reduce(t, ReduceOp::sum, "a large all-reduce");
  CHECK(first_wrong<float>(t, [&](int64_t i) { return reduced(comm.size(), i, ReduceOp::sum); }) == -1);

  const int64_t share = 3'000'017;
  const Tensor from = filled<double>(comm.rank(), share * comm.size());
  Tensor to(host_allocator(), {share}, Dtype::f64);
  comm.reduce_scatter(from, to);
  const int64_t first = share * comm.rank();
  CHECK(first_wrong<double>(to, [&](int64_t i) { return reduced(comm.size(), first + i, ReduceOp::sum); }) == -1);
}

TEST_CASE("sums are taken in rank order, the same bits for any size, on every rank") {
  Collective& comm = test::world().device_collective();
  const auto element = [](int r, int64_t i) {
    return static_cast<float>(std::sin(static_cast<double>(i * 13 + r * 7)));
  };
  for (const int64_t n : {3, 4097, 5'000'000}) {
    Tensor t(host_allocator(), {n}, Dtype::f32);
    for (int64_t i = 0; i < n; ++i) t.data<float>()[i] = element(comm.rank(), i);
    comm.all_reduce(t, ReduceOp::sum);
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; ++i) {
      float sum = element(0, i);
      for (int r = 1; r < comm.size(); ++r) sum += element(r, i);
      wrong += std::memcmp(&sum, t.data<float>() + i, sizeof sum) != 0;
    }
    INFO(n << " elements");
    CHECK(wrong == 0);
  }
}

TEST_CASE("a sum in bf16: rounded, summed in fp32 in rank order, rounded; half the bytes are sent") {
  Collective& comm = test::world().device_collective();
  for (const int64_t n :
       {int64_t{0}, int64_t{1}, int64_t{3}, int64_t{4097}, int64_t{5'000'001}}) {  // the last: two slabs
    INFO(n << " elements");
    Tensor t(host_allocator(), {n}, Dtype::f32);
    for (int64_t i = 0; i < n; ++i) t.data<float>()[i] = test::narrow_sample(comm.rank(), i);
    const int64_t before = comm.bytes_sent();
    comm.wait(comm.start_all_reduce_bf16(t), "a narrow sum");
    CHECK(first_wrong<float>(t, [&](int64_t i) { return test::narrow_sum(comm.size(), i); }) == -1);
    // To its owner and from it each element is 2 bytes, W - 1 times; shares of a slab differ by one element.
    const int64_t others = comm.size() - 1, sent = comm.bytes_sent() - before;
    CHECK(sent >= 4 * others * (n / comm.size() - 2));
    CHECK(sent <= 4 * others * (n / comm.size() + 2));
  }
}

TEST_CASE("what is under way moves while nobody polls") {
  World& world = test::world();
  if (world.size() == 1) return;
  Collective& comm = world.device_collective();
  Tensor t = filled<float>(comm.rank(), 3'000'000);
  Pending sum = comm.start_all_reduce(t, ReduceOp::sum);
  for (int ms = 0; ms < 30'000 && !sum->ended(); ++ms) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  REQUIRE(sum->ended());  // which does not poll
  comm.wait(std::move(sum), "a sum");
  CHECK(first_wrong<float>(t, [&](int64_t i) { return reduced(comm.size(), i, ReduceOp::sum); }) == -1);
}

TEST_CASE("a value that is not finite reaches every rank") {
  Collective& comm = test::world().device_collective();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max, ReduceOp::min}) {
    for (int bad = 0; bad < comm.size(); ++bad) {
      Tensor t = Tensor::from<float>({comm.rank() == bad ? nan : 1.0F}, {1});
      comm.all_reduce(t, op);
      CHECK(std::isnan(t.data<float>()[0]));
    }
  }
}

TEST_CASE("many requests at once, on both communicators, finished in another order") {
  World& w = test::world();
  for (int round = 0; round < 20; ++round) {
    std::vector<Tensor> sums, gathered;
    std::vector<Pending> pending;
    for (int64_t k = 0; k < 8; ++k) {
      const int64_t n = 1 + k * 5000 + round;
      Collective& comm = k % 2 == 0 ? w.device_collective() : w.host_collective();
      pending.push_back(comm.start_all_reduce(sums.emplace_back(filled<float>(w.rank(), n)), ReduceOp::sum));
      const Tensor mine = filled<int64_t>(w.rank(), n);
      Tensor& all = gathered.emplace_back(host_allocator(), Shape{w.size(), n}, Dtype::i64);
      pending.push_back(comm.start_all_gather(mine, all));  // `mine` ends here: the request keeps its memory
      pending.push_back(comm.start_barrier());
    }
    // Each rank finishes in an order of its own.
    for (size_t i = 0; i < pending.size(); ++i) {
      const size_t at = (i * 7 + static_cast<size_t>(w.rank()) * 5) % pending.size();
      Collective& comm = at / 3 % 2 == 0 ? w.device_collective() : w.host_collective();
      comm.wait(std::move(pending[at]), "one of many");
    }
    for (size_t k = 0; k < sums.size(); ++k) {
      const int64_t n = sums[k].elements();
      CHECK(first_wrong<float>(sums[k], [&](int64_t i) { return reduced(w.size(), i, ReduceOp::sum); }) == -1);
      CHECK(first_wrong<int64_t>(gathered[k], [&](int64_t i) { return value(i / n, i % n); }) == -1);
    }
  }
}

TEST_CASE("groups of ranks: all that all ranks can, each for itself, beside what all ranks have under way") {
  World& w = test::world();
  for (int ranks = 1; ranks <= w.size(); ++ranks) {
    if (w.size() % ranks != 0) {
      CHECK_THROWS_AS(w.device_collective().split(ranks, w.host_collective()), LogicError);
      continue;
    }
    INFO("groups of " << ranks);
    const auto group = w.device_collective().split(ranks, w.host_collective());
    CHECK(group->rank() == w.rank() % ranks);
    CHECK(group->size() == ranks);
    // A bucket of all ranks is under way until all groups have been through the cases.
    Tensor bucket = filled<float>(w.rank(), 300'000);
    Pending pending = w.device_collective().start_all_reduce(bucket, ReduceOp::sum);
    check_reductions<double>(*group);
    check_copies<float>(*group);
    // Not merely its size: sums are of this group's ranks.
    Tensor first = Tensor::from<int64_t>({w.rank()}, {1});
    group->all_reduce(first, ReduceOp::min);
    CHECK(first.data<int64_t>()[0] == w.rank() / ranks * ranks);
    w.device_collective().wait(std::move(pending), "a bucket");
    CHECK(first_wrong<float>(bucket, [&](int64_t i) { return reduced(w.size(), i, ReduceOp::sum); }) == -1);
  }
}

TEST_CASE("polling alone completes a request") {
  Collective& comm = test::world().device_collective();
  Tensor t = filled<float>(comm.rank(), 100'000);
  const Pending pending = comm.start_all_reduce(t, ReduceOp::sum);
  while (!pending->poll()) {
  }
  CHECK(pending->poll());
  CHECK(first_wrong<float>(t, [&](int64_t i) { return reduced(comm.size(), i, ReduceOp::sum); }) == -1);
}

TEST_CASE("what cannot be carried is refused before anything is sent") {
  Collective& comm = test::world().device_collective();
  Tensor half(host_allocator(), {8}, Dtype::bf16);
  CHECK_THROWS_AS(comm.all_reduce(half, ReduceOp::sum), LogicError);
  Tensor from(host_allocator(), {8 * comm.size()}, Dtype::bf16), short_one(host_allocator(), {7}, Dtype::f32);
  CHECK_THROWS_AS(comm.reduce_scatter(from, half), LogicError);
  Tensor all(host_allocator(), {8 * comm.size()}, Dtype::f32);
  CHECK_THROWS_AS(comm.all_gather(short_one, all), LogicError);
  CHECK_THROWS_AS(comm.broadcast(all, comm.size()), LogicError);
  comm.all_gather(half, from);  // as bytes any type travels
}

TEST_CASE("the world knows its places") {
  World& w = test::world();
  CHECK(w.size() == static_cast<int>(w.hosts().size()));
  CHECK(w.local_size() == w.size());  // the tests run on one host
  CHECK(w.local_rank() == w.rank());
  CHECK(w.threads() == std::max(1, available_cores() / w.size()));
  CHECK(w.oversubscribed() == (w.size() > available_cores()));
  CHECK(w.warnings().empty());
  CHECK(w.mpi_version().rfind("Open MPI ", 0) == 0);
  const std::vector<int64_t> ranks = gather_values(w.host_collective(), static_cast<int64_t>(w.rank()));
  for (int r = 0; r < w.size(); ++r) CHECK(ranks[static_cast<size_t>(r)] == r);
}
