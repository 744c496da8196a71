// The permutation of an epoch: a bijection, and well mixed.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "data/permutation.h"
#include "data_support.h"

using namespace plsc;

namespace {

std::vector<int64_t> all(int64_t n, uint64_t seed, int64_t epoch) {
  const Permutation p(n, seed, epoch);
  std::vector<int64_t> values(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) values[static_cast<size_t>(i)] = p(i);
  return values;
}

}  // namespace

TEST_CASE("every size is a bijection") {
  for (int64_t n = 1; n < 300; ++n) {
    auto values = all(n, 7, n);
    std::sort(values.begin(), values.end());
    for (int64_t i = 0; i < n; ++i) REQUIRE(values[static_cast<size_t>(i)] == i);
  }
  for (const int64_t n : {65536, 65537, 99991}) {
    std::vector<bool> seen(static_cast<size_t>(n));
    for (const int64_t v : all(n, 1, 0)) {
      REQUIRE(!seen.at(static_cast<size_t>(v)));
      seen[static_cast<size_t>(v)] = true;
    }
  }
}

TEST_CASE("a billion elements cost nothing") {
  const Permutation p(int64_t{1} << 40, 1, 1);
  int64_t low = 0;
  for (int64_t i = 0; i < 1000; ++i) {
    const int64_t v = p(i);
    REQUIRE(v >= 0);
    REQUIRE(v < int64_t{1} << 40);
    low += v < int64_t{1} << 39;
  }
  CHECK(std::abs(static_cast<double>(low) - 500) < 5 * std::sqrt(250.0));  // five standard deviations of a fair coin
}

TEST_CASE("seeds and epochs give other orders") {
  const auto base = all(1000, 1, 0);
  CHECK(base == all(1000, 1, 0));
  for (const auto& other : {all(1000, 2, 0), all(1000, 1, 1)}) {
    // Two independent permutations agree in about one place (Poisson with mean 1: more than 8 is rarer than 1e-6).
    int agree = 0;
    for (size_t i = 0; i < 1000; ++i) agree += base[i] == other[i];
    CHECK(agree <= 8);
  }
}

TEST_CASE("positions are spread evenly: chi-square over blocks") {
  // Where the 100 blocks of positions go, in 100 blocks of values: 10 000 cells with 10 expected in each.
  const int64_t n = 100000, blocks = 100;
  const auto values = all(n, 3, 5);
  std::vector<int> cells(static_cast<size_t>(blocks * blocks));
  for (int64_t i = 0; i < n; ++i) {
    const int64_t from = i * blocks / n, to = values[static_cast<size_t>(i)] * blocks / n;
    ++cells[static_cast<size_t>(from * blocks + to)];
  }
  double chi2 = 0;
  for (const int c : cells) chi2 += (c - 10.0) * (c - 10.0) / 10.0;
  // Rows and columns have fixed sums: 99 * 99 degrees of freedom, standard deviation sqrt(2 * 9801) = 140; five of
  // them.
  CHECK(std::abs(chi2 - 9801) < 5 * 140);
}

TEST_CASE("neighbours do not stay neighbours") {
  const int64_t n = 100000;
  const auto values = all(n, 11, 0);
  double product = 0, square = 0;
  int adjacent = 0;
  const double mean = static_cast<double>(n - 1) / 2;
  for (size_t i = 0; i + 1 < values.size(); ++i) {
    const double a = static_cast<double>(values[i]) - mean, b = static_cast<double>(values[i + 1]) - mean;
    product += a * b;
    square += a * a;
    adjacent += std::abs(values[i] - values[i + 1]) == 1;
  }
  CHECK(std::abs(product / square) < 5 / std::sqrt(static_cast<double>(n)));  // the correlation of n independent pairs
  CHECK(adjacent <= 12);                                                      // Poisson with mean 2
}
