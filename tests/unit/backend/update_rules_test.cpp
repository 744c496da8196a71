// The formulas of adam.h and trust.h, element by element: against double precision, and at their corners.
#include <cmath>
#include <limits>

#include "kernels/math/step_state.h"
#include "kernels/math/trust.h"
#include "support/catch.h"

namespace plsc::math {
namespace {

constexpr UpdateRule kAdam{.kind = UpdateKind::adamw,
                           .lr = 0.01F,
                           .weight_decay = 0.1F,
                           .gradient_scale = 0.5F,
                           .epsilon = 1e-8F,
                           .beta1 = 0.9,
                           .beta2 = 0.999};

}  // namespace

TEST_CASE("whole powers are those of pow") {
  CHECK(whole_power(0.999, 0) == 1);
  CHECK(whole_power(0, 0) == 1);
  CHECK(whole_power(0, 5) == 0);
  CHECK(whole_power(0.999, 1) == 0.999);
  // Each of at most 2 log2(n) multiplications rounds by 1.1e-16 of the value, and a square doubles what it was given.
  for (const int64_t n : {2, 3, 7, 100, 12'345, 1'000'000})
    CHECK(whole_power(0.999, n) ==
          test::Approx(std::pow(0.999, static_cast<double>(n))).epsilon(4e-16 * static_cast<double>(n)));
  CHECK(whole_power(0.9, int64_t{1} << 40) == 0);
}

TEST_CASE("adam's updates are those of its formula in double, over many steps") {
  double m = 0, v = 0, w = 0.7;
  float fm = 0, fv = 0, fw = 0.7F;
  for (int64_t t = 1; t <= 500; ++t) {
    const auto g = static_cast<float>(std::sin(0.3 * static_cast<double>(t)) + 0.2);
    adamw_update(adam_rule(kAdam, t), g, fw, fm, fv);
    const double scaled = 0.5 * static_cast<double>(g);
    m = 0.9 * m + (1 - 0.9) * scaled;
    v = 0.999 * v + (1 - 0.999) * scaled * scaled;
    const auto steps = static_cast<double>(t);
    const double unbiased_m = m / (1 - std::pow(0.9, steps)), unbiased_v = v / (1 - std::pow(0.999, steps));
    w -= 0.01 * (unbiased_m / (std::sqrt(unbiased_v) + 1e-8) + 0.1 * w);
    // fp32: a rounding of 6e-8 a step in each moment, forgotten by their decay; of w none is.
    REQUIRE(fm == test::Approx(m).epsilon(1e-6).margin(1e-7));
    REQUIRE(fv == test::Approx(v).epsilon(2e-5));
    REQUIRE(fw == test::Approx(w).epsilon(1e-5).margin(1e-5));
  }
}

TEST_CASE("adam's first step is lr whatever the gradient's size, and none without a gradient") {
  for (const float g : {1e-4F, 1.0F, 1e4F}) {
    float w = 0, m = 0, v = 0;
    adamw_update(adam_rule(kAdam, 1), g, w, m, v);
    CHECK(w == test::Approx(-0.01).epsilon(1e-3));  // epsilon is 2e-4 of the smallest gradient, halved
  }
  float w = 0, m = 0, v = 0;
  adamw_update(adam_rule(kAdam, 1), 0, w, m, v);
  CHECK(w == 0);
  w = 2;
  adamw_update(adam_rule(kAdam, 1), 0, w, m, v);
  CHECK(w == test::Approx(2 * (1 - 0.01 * 0.1)));  // it decays all the same
}

TEST_CASE("lamb with a ratio of 1 is adamw") {
  float w = 0.3F, m = 0.1F, v = 0.2F;
  float lw = w, lm = m, lv = v;
  const AdamRule rule = adam_rule(kAdam, 7);
  adamw_update(rule, 0.4F, w, m, v);
  adam_moments(rule, 0.4F, lm, lv);
  lamb_update(rule, rule.lr, lw, lm, lv);
  CHECK(lw == w);
  CHECK(lm == m);
  CHECK(lv == v);
}

TEST_CASE("trust ratios, and what stands for them where a norm is 0") {
  UpdateRule lars{.kind = UpdateKind::lars, .weight_decay = 0.5F, .trust = 0.25F};
  CHECK(lars_ratio(lars, 4, 6) == test::Approx(0.25 * 4 / (6 + 0.5 * 4)));
  CHECK(lars_ratio(lars, 4, 0) == test::Approx(0.25 / 0.5));  // decay alone
  CHECK(lars_ratio(lars, 0, 6) == 1);
  CHECK(lars_ratio(lars, 0, 0) == 1);
  lars.weight_decay = 0;
  CHECK(lars_ratio(lars, 4, 0) == 1);
  CHECK(lars_ratio(lars, 4, 1e-300) < std::numeric_limits<double>::infinity());
  CHECK(lamb_ratio(4, 8) == 0.5);
  CHECK(lamb_ratio(0, 8) == 1);
  CHECK(lamb_ratio(4, 0) == 1);
}

TEST_CASE("lars without trust is SGD with the rate inside its momentum") {
  const UpdateRule rule{.lr = 0.1F, .weight_decay = 0.01F, .gradient_scale = 0.5F, .momentum = 0.9F};
  float w = 0.3F, v = 0, lw = 0.3F, lv = 0;
  for (int step = 0; step < 20; ++step) {
    const float g = std::cos(static_cast<float>(step));
    sgd_update(sgd_rule(rule), g, w, v);
    lars_update(rule, rule.lr, g, lw, lv);
    // Twenty updates in fp32 of values below 1.
    CHECK(lw == test::Approx(w).margin(2e-6));
    CHECK(lv == test::Approx(0.1 * static_cast<double>(v)).margin(2e-6));
  }
}

TEST_CASE("a step's rule is the state's with its factor and the group's rate and decay") {
  StepState state;
  state.in.rule = kAdam;
  state.grad_factor = 0.125;
  const UpdateRule plain = step_rule(state, {.weight_decay = 0.1F});
  CHECK(plain.lr == 0.01F);
  CHECK(plain.gradient_scale == 0.125F);
  CHECK(plain.weight_decay == 0.1F);
  CHECK(plain.beta2 == 0.999);
  const UpdateRule norms = step_rule(state, {.lr = 2, .weight_decay = 0});
  CHECK(norms.lr == 0.02F);
  CHECK(norms.weight_decay == 0);
}

TEST_CASE("updates that took place are counted, and no others") {
  StepState state;
  CHECK(update_number(state) == 1);
  finish_step(state, {});
  CHECK(update_number(state) == 2);
  state.in.dynamic_scale = 1;
  state.overflow = 1;
  finish_step(state, {});
  CHECK(update_number(state) == 2);
  state.overflow = 0;
  finish_step(state, {});
  CHECK(update_number(state) == 3);
}

}  // namespace plsc::math
