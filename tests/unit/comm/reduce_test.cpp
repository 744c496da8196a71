// Reductions in rank order, and the world of one rank.
#include "comm/reduce.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "support/catch.h"

using namespace plsc;

namespace {

template <class T>
std::vector<T> reduced(ReduceOp op, const std::vector<std::vector<T>>& parts) {
  std::vector<const void*> pointers;
  for (const auto& part : parts) pointers.push_back(part.data());
  std::vector<T> out(parts[0].size());
  reduce_parts(DtypeOf<T>::value, op, pointers, out.data(), static_cast<int64_t>(out.size()));
  return out;
}

template <class T>
void check_type() {
  const std::vector<std::vector<T>> parts{{5, 1, 0}, {2, 9, 0}, {7, 3, 1}};
  CHECK(reduced<T>(ReduceOp::sum, parts) == std::vector<T>{14, 13, 1});
  CHECK(reduced<T>(ReduceOp::max, parts) == std::vector<T>{7, 9, 1});
  CHECK(reduced<T>(ReduceOp::min, parts) == std::vector<T>{2, 1, 0});
}

}  // namespace

TEST_CASE("every type and operation") {
  check_type<float>();
  check_type<double>();
  check_type<int64_t>();
  check_type<int32_t>();
  check_type<uint8_t>();
}

TEST_CASE("sums run from the first part to the last, whatever the length") {
  // 1 is lost when it is added to 1e8 in float, so the order shows.
  CHECK(reduced<float>(ReduceOp::sum, {{1e8F}, {1}, {-1e8F}})[0] == 0.0F);
  CHECK(reduced<float>(ReduceOp::sum, {{1e8F}, {-1e8F}, {1}})[0] == 1.0F);
  for (const size_t n : {1000, 1024, 1025, 5000}) {  // around the block of 1024
    std::vector<std::vector<float>> parts(3, std::vector<float>(n));
    for (size_t p = 0; p < 3; ++p)
      for (size_t i = 0; i < n; ++i) parts[p][i] = std::sin(static_cast<float>(i * 3 + p));
    const std::vector<float> sums = reduced<float>(ReduceOp::sum, parts);
    for (size_t i = 0; i < n; ++i) REQUIRE(sums[i] == (parts[0][i] + parts[1][i]) + parts[2][i]);
  }
}

TEST_CASE("the result may overwrite a part, the first or the last") {
  std::vector<float> a(3000, 1), b(3000, 2), c(3000, 4);
  std::vector<const void*> parts{a.data(), b.data(), c.data()};
  reduce_parts(Dtype::f32, ReduceOp::sum, parts, c.data(), 3000);
  CHECK(c == std::vector<float>(3000, 7));
  reduce_parts(Dtype::f32, ReduceOp::sum, parts, a.data(), 3000);
  CHECK(a == std::vector<float>(3000, 10));
}

TEST_CASE("a NaN of any part goes through maxima and minima") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (size_t bad = 0; bad < 3; ++bad) {
    std::vector<std::vector<double>> parts{{1}, {2}, {3}};
    parts[bad][0] = nan;
    for (const ReduceOp op : {ReduceOp::max, ReduceOp::min, ReduceOp::sum}) CHECK(std::isnan(reduced(op, parts)[0]));
  }
}

TEST_CASE("16-bit floats are not summed") {
  CHECK_FALSE(can_reduce(Dtype::bf16));
  const uint16_t value = 0;
  uint16_t out = 0;
  const std::vector<const void*> parts{&value};
  CHECK_THROWS_AS(reduce_parts(Dtype::bf16, ReduceOp::sum, parts, &out, 1), LogicError);
}

TEST_CASE("one rank: gathers and scatters copy, mistakes are refused as with several") {
  const auto comm = make_single_collective();
  CHECK(comm->rank() == 0);
  CHECK(comm->size() == 1);
  Tensor t = Tensor::from<float>({1, 2, 3}, {3}), out(host_allocator(), {3}, Dtype::f32);
  comm->all_reduce(t, ReduceOp::sum);
  comm->broadcast(t, 0);
  comm->barrier();
  CHECK(t.values<float>() == std::vector<float>{1, 2, 3});
  comm->all_gather(t, out);
  CHECK(out.values<float>() == std::vector<float>{1, 2, 3});
  t.data<float>()[0] = 9;
  comm->reduce_scatter(t, out);
  CHECK(out.values<float>() == std::vector<float>{9, 2, 3});
  Tensor half(host_allocator(), {3}, Dtype::bf16), two(host_allocator(), {2}, Dtype::f32);
  CHECK_THROWS_AS(comm->all_reduce(half, ReduceOp::sum), LogicError);
  CHECK_THROWS_AS(comm->all_gather(t, two), LogicError);
  CHECK_THROWS_AS(comm->all_gather(t, half), LogicError);
  CHECK_THROWS_AS(comm->broadcast(t, 1), LogicError);
  CHECK(gather_values(*comm, int64_t{7}) == std::vector<int64_t>{7});
  CHECK(gather_texts(*comm, "abc") == std::vector<std::string>{"abc"});
  CHECK(broadcast_text(*comm, "").empty());
  CHECK_NOTHROW(agree_or_fail(*comm, ""));
}
