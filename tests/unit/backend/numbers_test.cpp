// The scalar truths of kernels/math that this layer's ops loop over.
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/math/bf16.h"
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
