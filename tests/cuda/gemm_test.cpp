// Matrix products against loops in double: shapes of 0 and 1, odd ones, transposes, gaps between rows, alpha and beta,
// and all types.
#include "backend/cuda/gemm.h"

#include "conv_backend.h"
#include "parity/backend/values.h"

using namespace plsc;
using namespace plsc::test;

namespace {

struct Sizes {
  int64_t rows, columns, ld;
  Shape shape() const { return {rows, ld}; }
  size_t at(int64_t i, int64_t j) const { return static_cast<size_t>(i * ld + j); }
};
Sizes stored(int64_t rows, int64_t columns, bool transposed, int64_t ld) {
  if (transposed) std::swap(rows, columns);
  return {rows, columns, ld ? ld : columns};
}

struct Scale {
  float alpha = 1, beta = 0;
};

void check_product(Backend& backend, const GemmSpec& s, const Scale& scale) {
  INFO("(" << s.m << ", " << s.k << ") by (" << s.k << ", " << s.n << "), transposed " << s.transpose_a << s.transpose_b
           << ", " << dtype_name(s.in) << " to " << dtype_name(s.out) << ", alpha " << scale.alpha << ", beta "
           << scale.beta);
  const Sizes sa = stored(s.m, s.k, s.transpose_a, s.lda), sb = stored(s.k, s.n, s.transpose_b, s.ldb);
  const Sizes sc = stored(s.m, s.n, false, s.ldc);
  const Values a = random_values(sa.shape(), 1, s.in), b = random_values(sb.shape(), 2, s.in);
  Values old = random_values(sc.shape(), 3, s.out);
  // What is only written may hold anything.
  if (scale.beta == 0) old.assign(old.size(), std::numeric_limits<double>::quiet_NaN());
  Values expected = old;
  for (int64_t i = 0; i < s.m; ++i)
    for (int64_t j = 0; j < s.n; ++j) {
      double sum = 0;
      for (int64_t q = 0; q < s.k; ++q) {
        sum += a[s.transpose_a ? sa.at(q, i) : sa.at(i, q)] * b[s.transpose_b ? sb.at(j, q) : sb.at(q, j)];
      }
      double& c = expected[sc.at(i, j)];
      c = static_cast<double>(scale.alpha) * sum + (scale.beta == 0 ? 0 : static_cast<double>(scale.beta) * c);
    }
  const Tensor ta = upload(*backend.device, a, sa.shape(), s.in), tb = upload(*backend.device, b, sb.shape(), s.in);
  const Tensor tc = upload(*backend.device, old, sc.shape(), s.out);
  runtime_of(backend).gemms->run(s, {ta.raw(), tb.raw(), tc.raw(), scale.alpha, scale.beta});
  Values got = download(*backend.device, tc);
  for (int64_t i = 0; i < sc.rows; ++i)  // gaps between rows keep what they had
    for (int64_t j = sc.columns; j < sc.ld; ++j) {
      const double before = old[sc.at(i, j)];
      CHECK((got[sc.at(i, j)] == before || (std::isnan(before) && std::isnan(got[sc.at(i, j)]))));
      got[sc.at(i, j)] = expected[sc.at(i, j)] = 0;
    }
  require_stored(got, expected, s.out);
}

}  // namespace

TEST_CASE("gemm: shapes, transposes and scales") {
  Backend backend = conv_backend();
  const std::array<int64_t, 3> sizes[] = {{1, 1, 1},     {3, 5, 7}, {17, 1, 33}, {1, 64, 128}, {64, 32, 64},
                                          {33, 40, 100}, {8, 9, 0}, {0, 3, 4},   {5, 0, 3},    {128, 16, 65}};
  for (const auto& [m, n, k] : sizes)
    for (bool ta : {false, true})
      for (bool tb : {false, true})
        for (const Scale& scale : {Scale{}, Scale{1, 1}, Scale{-0.5f, k == 0 ? 0.0f : 2.0f}}) {
          check_product(backend, {.m = m, .n = n, .k = k, .transpose_a = ta, .transpose_b = tb}, scale);
        }
}

TEST_CASE("gemm: 16-bit factors, sums in fp32, outputs of both kinds") {
  Backend backend = conv_backend();
  for (Dtype in : {Dtype::bf16, Dtype::f16})
    for (Dtype out : {in, Dtype::f32})
      for (int64_t k : {7, 64, 200})
        for (bool transposed : {false, true}) {
          const GemmSpec s{
              .m = 24, .n = 40, .k = k, .transpose_a = transposed, .transpose_b = !transposed, .in = in, .out = out};
          check_product(backend, s, {});
          check_product(backend, s, {1, 1});
        }
}

TEST_CASE("gemm: gaps between rows are neither read nor written") {
  Backend backend = conv_backend();
  for (bool transposed : {false, true}) {
    GemmSpec s{.m = 6, .n = 10, .k = 4, .transpose_a = transposed, .transpose_b = transposed};
    s.lda = (transposed ? s.m : s.k) + 3;
    s.ldb = (transposed ? s.k : s.n) + 5;
    s.ldc = s.n + 2;
    check_product(backend, s, {});
    check_product(backend, s, {1, 1});
    s.k = 0;
    check_product(backend, s, {});
  }
}

TEST_CASE("gemm: fp32 is fp32 unless tf32 is asked for") {
  Backend backend = conv_backend({.tf32 = true});
  const Values a = random_values({1, 64}, 1, Dtype::f32);
  const Tensor t = upload(*backend.device, a, {1, 64});
  Tensor c = backend.device->tensor({1});
  runtime_of(backend).gemms->run({.m = 1, .n = 1, .k = 64, .transpose_b = true}, {t.raw(), t.raw(), c.raw()});
  const double got = download(*backend.device, c)[0], exact = dot(a, a);
  CHECK(got != Approx(exact).epsilon(1e-6));
  CHECK(got == Approx(exact).epsilon(1e-3));  // 2^-11 of each factor
}

TEST_CASE("gemm: what it cannot do is refused") {
  Backend backend = conv_backend();
  const Tensor t = backend.device->zeros({16});
  GemmCache& gemms = *runtime_of(backend).gemms;
  const GemmOperands same{t.raw(), t.raw(), t.raw()};
  CHECK_THROWS_AS(gemms.run({.m = 2, .n = 2, .k = 2, .in = Dtype::f64, .out = Dtype::f32}, same), LogicError);
  CHECK_THROWS_AS(gemms.run({.m = 2, .n = 2, .k = 2, .out = Dtype::bf16}, same), LogicError);
  CHECK_THROWS_AS(gemms.run({.m = 2, .n = 2, .k = 2, .lda = 1}, same), LogicError);
  CHECK_THROWS_AS(gemms.run({.m = 2, .n = 2, .k = 2, .ldc = 1}, same), LogicError);
  CHECK_THROWS_AS(gemms.run({.m = -1, .n = 2, .k = 2}, same), LogicError);
}
