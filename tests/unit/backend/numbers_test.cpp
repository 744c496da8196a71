// The scalar truths of kernels/math that this layer's ops loop over.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/math/bf16.h"
#include "kernels/math/normal.h"
#include "kernels/math/sgd.h"
#include "support/catch.h"

namespace plsc::math {
namespace {

float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace

TEST_CASE("every bf16 survives the way to fp32 and back") {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto narrow = static_cast<uint16_t>(bits);
    const float wide = bf16_to_float(narrow);
    if (std::isnan(wide)) {
      if (!std::isnan(bf16_to_float(float_to_bf16(wide)))) FAIL("NaN " << bits);
    } else if (float_to_bf16(wide) != narrow) {
      FAIL("bits " << bits);
    }
  }
}

TEST_CASE("rounding to bf16 takes the nearest, and the even one of two") {
  // Three values above each of many bf16: just below, at and just above the half.
  for (uint32_t high = 0; high < 0x7F80; high += 7) {
    const uint32_t up = high + 1, even = high % 2 == 0 ? high : up;
    CHECK(float_to_bf16(float_of((high << 16) | 0x7FFF)) == high);
    CHECK(float_to_bf16(float_of((high << 16) | 0x8000)) == even);
    CHECK(float_to_bf16(float_of((high << 16) | 0x8001)) == up);
  }
}

TEST_CASE("logarithm, cosine and sine of what normal numbers are drawn from, against the library's") {
  double log_error = 0, angle_error = 0;
  const auto at = [&](uint32_t bits) {
    const double u = to_open_unit(bits);
    log_error = std::max(log_error, std::abs(log_positive(u) / std::log(u) - 1));
    const long double angle = 6.283185307179586476925L * static_cast<long double>(u);
    const CosSin got = cos_sin_of_turns(u);
    angle_error =
        std::max(angle_error, std::abs(static_cast<double>(static_cast<long double>(got.cosine) - std::cos(angle))));
    angle_error =
        std::max(angle_error, std::abs(static_cast<double>(static_cast<long double>(got.sine) - std::sin(angle))));
  };
  // Both ends and the bounds of the quarters and eighths, where either changes its branch; and all between, in strides.
  for (uint32_t eighth = 0; eighth < 8; ++eighth) {
    for (uint32_t i = 0; i < 100; ++i) {
      at((eighth << 29) + i);
      at((eighth << 29) - 1 - i);
    }
  }
  for (uint64_t bits = 0; bits < 0x100000000u; bits += 21577) at(static_cast<uint32_t>(bits));
  // As their comments say.
  CHECK(log_error < 5e-16);
  CHECK(angle_error < 3e-16);
}

TEST_CASE("normal numbers have the moments of N(0, 1), and a pair's two are not related") {
  double mean = 0, square = 0, fourth = 0, product = 0;
  constexpr int kDraws = 50000;
  for (int i = 0; i < kDraws; ++i) {
    const Normal4 n = normal4(random4(3, Draw::center_init, 1, static_cast<uint64_t>(i)));
    for (const double x : n.x) {
      mean += x;
      square += x * x;
      fourth += x * x * x * x;
    }
    product += n.x[0] * n.x[1] + n.x[2] * n.x[3];
  }
  constexpr double kCount = 4.0 * kDraws;
  // Four deviations of the means: variances 1, 2, 96 and (of half as many) 1.
  CHECK(std::abs(mean / kCount) < 4 * std::sqrt(1 / kCount));
  CHECK(std::abs(square / kCount - 1) < 4 * std::sqrt(2 / kCount));
  CHECK(std::abs(fourth / kCount - 3) < 4 * std::sqrt(96 / kCount));
  CHECK(std::abs(product / (kCount / 2)) < 4 * std::sqrt(2 / kCount));
}

TEST_CASE("SGD's first step takes the gradient as momentum") {
  const SgdRule rule{0.5f, 0.9f, 0.1f, 2.0f, false};
  float w = 1, v = 0;
  sgd_update(rule, 3.0f, w, v);
  CHECK(v == test::Approx(6.1f));
  CHECK(w == test::Approx(1 - 0.5f * 6.1f));
}

TEST_CASE("Nesterov looks one step ahead") {
  const SgdRule rule{0.5f, 0.9f, 0.0f, 1.0f, true};
  float w = 1, v = 2;
  sgd_update(rule, 3.0f, w, v);
  CHECK(v == test::Approx(0.9f * 2 + 3));
  CHECK(w == test::Approx(1 - 0.5f * (3 + 0.9f * 4.8f)));
}

}  // namespace plsc::math
