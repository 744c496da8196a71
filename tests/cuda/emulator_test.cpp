// What kernels may use, run by the emulator against plain loops.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <numeric>
#include <vector>

#include "emulator_kernels.h"
#include "support/catch.h"

namespace plsc::kernels::cuda::test {
namespace {

// Every test's own numbers: a few digits, positive and negative.
std::vector<float> numbers(int64_t n, float scale = 1.0f) {
  std::vector<float> x(static_cast<size_t>(n));
  uint32_t state = 12345;
  for (float& value : x) {
    state = state * 1664525u + 1013904223u;
    value = scale * (static_cast<float>(state >> 16) / 32768.0f - 1.0f);
  }
  return x;
}

TEST_CASE("lanes exchange values of every type") {
  constexpr int n = 64;
  std::vector<float> xor_float(n), down_in_eight(n);
  std::vector<double> down_double(n);
  std::vector<int> from_int(n), any_all(n);
  std::vector<unsigned> from_unsigned(n), ballot(n);
  std::vector<int64_t> xor_wide(n);
  exchange({xor_float.data(), down_double.data(), from_int.data(), from_unsigned.data(), xor_wide.data(),
            down_in_eight.data(), ballot.data(), any_all.data()},
           nullptr);
  for (int i = 0; i < n; ++i) {
    INFO("thread " << i);
    const int lane = i % 32;
    const int warp = i - lane;
    const auto at = static_cast<size_t>(i);
    CHECK(xor_float[at] == static_cast<float>(warp + (lane ^ 5)) + 0.5f);
    CHECK(down_double[at] == (lane + 3 < 32 ? i + 3 : i) + 0.25);
    CHECK(from_int[at] == -(warp + 7));
    CHECK(from_unsigned[at] == 0x80000000u + static_cast<unsigned>(warp + (lane + 9) % 32));
    CHECK(xor_wide[at] == (int64_t{1} << 40) + warp + (lane ^ 16));
    CHECK(down_in_eight[at] == static_cast<float>(lane % 8 + 2 < 8 ? i + 2 : i));
    CHECK(ballot[at] == 0x49249249u);
    CHECK(any_all[at] == 2 + 8);
  }
}

TEST_CASE("operations on bits") {
  std::vector<unsigned> x = {0, 1, 2, 3, 0x80000000u, 0xFFFFFFFFu, 0x00F0u, 0x12345678u};
  for (unsigned i = 0; i < 32; ++i) x.push_back(1u << i);
  std::vector<int> out(3 * x.size());
  bits(x.data(), out.data(), static_cast<int64_t>(x.size()), nullptr);
  for (size_t i = 0; i < x.size(); ++i) {
    INFO(x[i]);
    int ones = 0, lowest = 0, highest = 0;
    for (int bit = 31; bit >= 0; --bit) {
      if ((x[i] >> bit & 1u) == 0) continue;
      ++ones;
      lowest = bit + 1;
      highest = std::max(highest, bit + 1);
    }
    CHECK(out[3 * i] == ones);
    CHECK(out[3 * i + 1] == lowest);
    CHECK(out[3 * i + 2] == 32 - highest);
  }
}

TEST_CASE("arithmetic") {
  const std::vector<float> x = {0.25f, 1.0f, 4.0f, 100.0f};
  std::vector<float> y(x.size());
  arithmetic(x.data(), y.data(), static_cast<int64_t>(x.size()), nullptr);
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    CHECK(y[i] == plsc::test::Approx(1.0 / std::sqrt(v) + std::sqrt(v) + std::max(v, 1.0) + std::min(v, 1.0) + v));
  }
}

TEST_CASE("sums and maxima over a block, for any number of values and warps") {
  const int threads = GENERATE(32, 96, 256, 1024);
  const int64_t n = GENERATE(1, 2, 31, 33, 257, 3001);
  INFO(threads << " threads, " << n << " values");
  constexpr int64_t rows = 5;
  const std::vector<float> x = numbers(rows * n, 10.0f);
  std::vector<double> sums(rows);
  std::vector<float> float_sums(rows), largest(rows);
  int differing = 0;
  reduce_rows({x.data(), rows, n, sums.data(), float_sums.data(), largest.data(), &differing}, threads, nullptr);
  CHECK(differing == 0);
  for (int64_t row = 0; row < rows; ++row) {
    const auto begin = x.begin() + row * n;
    const double sum = std::accumulate(begin, begin + n, 0.0);
    const auto at = static_cast<size_t>(row);
    // fp32 numbers of 16 bits: their sums are exact in double; a float sum rounds at each of some 12 levels.
    CHECK(sums[at] == sum);
    CHECK(std::abs(float_sums[at] - sum) <= 1e-6 * 10.0 * static_cast<double>(n));
    CHECK(largest[at] == *std::max_element(begin, begin + n));
  }
}

template <class T>
void check_scale(int64_t n, float factor) {
  INFO(n << " elements of " << sizeof(T) << " bytes");
  // 16-byte alignment, as device memory has, and a number behind that no one may change.
  std::vector<double> x_memory(static_cast<size_t>(n) + 2), y_memory(static_cast<size_t>(n) + 2);
  T* x = reinterpret_cast<T*>(x_memory.data());
  T* y = reinterpret_cast<T*>(y_memory.data());
  const std::vector<float> values = numbers(n, 4.0f);
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<T>(values[static_cast<size_t>(i)]);
  y[n] = static_cast<T>(7.0f);
  scale(x, y, n, factor, nullptr);
  bool same = true;
  for (int64_t i = 0; i < n; ++i) {
    same = same && static_cast<float>(y[i]) == static_cast<float>(static_cast<T>(static_cast<float>(x[i]) * factor));
  }
  CHECK(same);
  CHECK(static_cast<float>(y[n]) == 7.0f);
}

TEST_CASE("vectors of 16 bytes, and the rest one by one") {
  const int64_t n = GENERATE(0, 1, 3, 4, 7, 8, 9, 255, 256, 1023);
  check_scale<float>(n, 0.3f);
  check_scale<__half>(n, 0.3f);
  check_scale<__nv_bfloat16>(n, 0.3f);
}

TEST_CASE("half types round to the nearest, ties to even") {
  // 1 + 2^-8 lies between the bfloat16 numbers 1 and 1 + 2^-7: to the even one; three quarters of the way: up.
  std::vector<double> memory(4);
  auto* b = reinterpret_cast<__nv_bfloat16*>(memory.data());
  const std::vector<float> scales = {1.0f + 0x1p-8f, 1.0f + 0x1.8p-8f, 1.0f + 0x1.8p-7f};
  const std::vector<float> expected = {1.0f, 1.0f + 0x1p-7f, 1.0f + 0x1p-6f};
  for (size_t i = 0; i < scales.size(); ++i) {
    b[0] = static_cast<__nv_bfloat16>(1.0f);
    scale(b, b, 1, scales[i], nullptr);
    CHECK(static_cast<float>(b[0]) == expected[i]);
  }
  auto* h = reinterpret_cast<__half*>(memory.data());
  h[0] = static_cast<__half>(1.0f);
  scale(h, h, 1, 1.0f + 0x1p-11f, nullptr);
  CHECK(static_cast<float>(h[0]) == 1.0f);
  scale(h, h, 1, 1e6f, nullptr);
  CHECK(std::isinf(static_cast<float>(h[0])));
}

TEST_CASE("dynamic shared memory") {
  const int threads = GENERATE(32, 64, 1024);
  constexpr int64_t blocks = 3;
  std::vector<double> x(static_cast<size_t>(blocks * threads));
  std::iota(x.begin(), x.end(), 0.5);
  std::vector<double> y(x.size());
  reverse(x.data(), y.data(), blocks, threads, nullptr);
  for (auto block = x.begin(); block != x.end(); block += threads) std::reverse(block, block + threads);
  CHECK(x == y);
}

TEST_CASE("atomics") {
  float add_float = 0;
  double add_double = 0;
  int add_int = 0, max_int = -5000;
  unsigned add_unsigned = 0, max_unsigned = 0, or_unsigned = 0;
  unsigned long long add_wide = 0;
  tally({&add_float, &add_double, &add_int, &add_unsigned, &add_wide, &max_int, &max_unsigned, &or_unsigned}, 3, 96,
        nullptr);
  CHECK(add_float == 144.0f);
  CHECK(add_double == 72.0);
  CHECK(add_int == -288);
  CHECK(add_unsigned == 864u);
  CHECK(add_wide == 288ull << 33);
  CHECK(max_int == 287 - 1000);
  CHECK(max_unsigned == 0x80000000u + 287u);
  CHECK(or_unsigned == 0xFFFFFFFFu);
}

TEST_CASE("every thread of every block runs once") {
  const auto [blocks, blocks_y, threads] =
      GENERATE(table<int64_t, int64_t, int>({{1, 1, 32}, {7, 1, 64}, {5, 3, 96}, {1, 4, 1024}, {100, 20, 32}}));
  std::vector<int> visits(static_cast<size_t>(blocks * blocks_y * threads));
  visit(visits.data(), blocks, blocks_y, threads, nullptr);
  CHECK(std::all_of(visits.begin(), visits.end(), [](int n) { return n == 1; }));
}

// Of the processor's time: others may use it too.
double seconds_of(auto&& body) {
  const std::clock_t begin = std::clock();
  body();
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

TEST_CASE("how fast threads take turns") {
  constexpr int threads = 256;
  const double barriers = seconds_of([] { wait_often(2000, threads, nullptr); });
  std::vector<float> out(threads);
  const double shuffles = seconds_of([&] { sum_often(out.data(), 400, threads, nullptr); });
  CHECK(std::all_of(out.begin(), out.end(), [](float value) { return value == 1.0f; }));
  std::vector<int> visits(1000 * threads);
  const double starts = seconds_of([&] { visit(visits.data(), 1000, 1, threads, nullptr); });
  CHECK(std::accumulate(visits.begin(), visits.end(), 0) == 1000 * threads);
  std::printf("a barrier costs a thread %.1f ns, an exchange %.1f ns; a thread without either takes %.1f ns\n",
              barriers / (2000.0 * threads) * 1e9, shuffles / (400.0 * 5 * threads) * 1e9,
              starts / (1000.0 * threads) * 1e9);
}

}  // namespace
}  // namespace plsc::kernels::cuda::test
