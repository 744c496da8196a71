// The head's own exponential and margin against the C library's in double.
#include <cmath>
#include <limits>

#include "kernels/cpu/head_tile.h"
#include "kernels/math/margin.h"
#include "support/catch.h"

namespace plsc::test {
namespace {

/// exp(x) as the compiled kernel gives it: the sum over one row of one class, with logit 0 and shift -x.
float kernel_exp(float x) {
  const float dot = 0, inverse = 1, shift = -x;
  float largest = -5;
  double sum = 0;
  kernels::TileLogits logits;
  logits.inverse_norms = &inverse;
  kernels::head_tile_sum({1, 1}, logits, &dot, &shift, &sum, &largest);
  return static_cast<float>(sum);
}

TEST_CASE("the exponential is within 2e-7 of the library's over its whole range") {
  double worst = 0;
  for (double x = -87.33; x < 88.72; x += 0.00137) {
    const auto f = static_cast<float>(x);
    const double exact = std::exp(static_cast<double>(f));
    worst = std::max(worst, std::abs(kernel_exp(f) / exact - 1));
  }
  CHECK(worst < 2e-7);
}

TEST_CASE("the exponential at and beyond the ends of its range") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK(kernel_exp(0) == 1);
  CHECK(kernel_exp(88.8F) == kInfinity);
  CHECK(kernel_exp(1e30F) == kInfinity);
  CHECK(kernel_exp(kInfinity) == kInfinity);
  CHECK(kernel_exp(-88.0F) == 0);
  CHECK(kernel_exp(-1e30F) == 0);
  CHECK(kernel_exp(-kInfinity) == 0);
  CHECK(std::isnan(kernel_exp(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("the margin's derivative is the slope of its value, and the value falls steadily in theta") {
  for (const math::MarginRule rule : {math::MarginRule{1, 0.5, 0}, math::MarginRule{1, 0, 0.4},
                                      math::MarginRule{1.35, 0, 0}, math::MarginRule{3.2, 1.1, 0.2}}) {
    double last = std::numeric_limits<double>::infinity();
    for (double theta = 0.01; theta < 3.13; theta += 0.01) {
      const double c = std::cos(theta), h = 1e-7;
      const math::MarginValue value = math::margin(rule, c);
      CHECK(value.f < last);
      last = value.f;
      const double numeric = (math::margin(rule, c + h).f - math::margin(rule, c - h).f) / (2 * h);
      // At a kink (phi a multiple of pi) the slope is 0 on both sides. h^2 f''' grows as 1 / sin^5 at the ends.
      if (theta > 0.1 && theta < 3.04) CHECK(value.df == Approx(numeric).epsilon(1e-4).margin(1e-3));
    }
  }
}

TEST_CASE("the margin outside of [-1, 1], and straight through") {
  const math::MarginRule arc{1, 0.5, 0};
  CHECK(math::margin(arc, 1.0).df == Approx(std::sin(0.5) / 1e-3));
  CHECK(math::margin(arc, 1.0000002).df == 0);
  CHECK(math::margin(arc, 1.0000002).f == math::margin(arc, 1.0).f);
  CHECK(math::margin(arc, -1.0).f == Approx(std::cos(0.5) - 2));  // phi = pi + .5: -cos(phi) - 2
  math::MarginRule through{1, 0.5, 0, true};
  CHECK(math::margin(through, -0.99).f == Approx(std::cos(std::acos(-0.99) + 0.5)));
  CHECK(math::margin(through, 0.3).df == 1);
  CHECK(std::isnan(math::margin(arc, std::numeric_limits<double>::quiet_NaN()).f));
}

TEST_CASE("softplus and sigmoid keep their relative accuracy far out") {
  CHECK(math::softplus(-40) == Approx(std::exp(-40)).epsilon(1e-15));
  CHECK(math::softplus(800) == 800);
  CHECK(math::sigmoid(-40) == Approx(std::exp(-40)).epsilon(1e-15));
  CHECK(math::sigmoid(-std::numeric_limits<double>::infinity()) == 0);
  CHECK(math::softplus(-std::numeric_limits<double>::infinity()) == 0);
}

}  // namespace
}  // namespace plsc::test
