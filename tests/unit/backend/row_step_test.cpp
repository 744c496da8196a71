// A stored row's step and its operand on a CPU against the formulas in double, in every pair of types, with and
// without missed steps, at widths that are no multiple of a vector.
#include "kernels/cpu/row_step.h"

#include <cmath>
#include <vector>

#include "kernels/math/normalize.h"
#include "support/catch.h"

namespace plsc::test {
namespace {

const math::SgdRule kRule{.lr = 0.1F, .momentum = 0.9F, .weight_decay = 5e-4F, .gradient_scale = 0.5F};
const math::CatchUpMatrix<float> kMissed{-1e-3F, -0.2F, 0.01F, 0.5F};
const math::RowRandom kForWeights = math::row_random(7, 3, 41),
                      kForMomentum = math::row_random(7, 3, 41, math::Draw::momentum_rounding);

void put(float x, float& to) { to = x; }
void put(float x, kernels::Bf16& to) { to = math::float_to_bf16(x); }
double value(float x) { return x; }
double value(kernels::Bf16 x) { return double{math::bf16_to_float(x)}; }

template <class T>
std::vector<T> some(int64_t n, double scale, int64_t seed) {
  std::vector<T> out(static_cast<size_t>(n));
  for (int64_t d = 0; d < n; ++d)
    put(static_cast<float>(scale * std::sin(0.7 * static_cast<double>((d + 1) * seed))), out[static_cast<size_t>(d)]);
  return out;
}

struct Expected {
  std::vector<double> w, v;
};
/// What the row is before its step.
template <class W, class V>
Expected caught_up(const std::vector<W>& w, const std::vector<V>& v, bool missed) {
  Expected out;
  for (size_t d = 0; d < w.size(); ++d) {
    out.w.push_back(value(w[d]));
    out.v.push_back(value(v[d]));
    const math::CatchUpMatrix<double> m{double{kMissed.ww1}, double{kMissed.wv}, double{kMissed.vw},
                                        double{kMissed.vv}};
    if (missed) math::catch_up(m, out.w.back(), out.v.back());
  }
  return out;
}
Expected stepped(Expected row, const std::vector<float>& u, double inverse) {
  double dot = 0;
  for (size_t d = 0; d < u.size(); ++d) dot += double{u[d]} * row.w[d];
  for (size_t d = 0; d < u.size(); ++d) {
    const double g = double{u[d]} - dot * inverse * inverse * row.w[d];
    const double decayed = double{kRule.gradient_scale} * g + double{kRule.weight_decay} * row.w[d];
    row.v[d] = double{kRule.momentum} * row.v[d] + decayed;
    row.w[d] -= double{kRule.lr} * row.v[d];
  }
  return row;
}

/// fp32 to rounding errors of a sum over the row.
void compare(const std::vector<float>& got, const std::vector<double>& expected, const math::RowRandom&) {
  for (size_t d = 0; d < got.size(); ++d) CHECK(std::abs(double{got[d]} - expected[d]) < 2e-6);
}
/// bf16 to the bit, but where fp32's own error carries a number over its draw's threshold: within 2e-6 of numbers whose
/// last place is 2^-11 or more that is one in 200.
void compare(const std::vector<kernels::Bf16>& got, const std::vector<double>& expected,
             const math::RowRandom& random) {
  int64_t other = 0;
  for (size_t d = 0; d < got.size(); ++d) {
    const uint32_t bits = math::rounding_bits(random, static_cast<int64_t>(d));
    const uint16_t rounded = math::float_to_bf16_stochastic(static_cast<float>(expected[d]), bits);
    if (got[d] == rounded) continue;
    ++other;
    CHECK(std::abs(value(got[d]) - expected[d]) < std::abs(expected[d]) / 128);
  }
  CHECK(other <= static_cast<int64_t>(got.size()) / 100 + 1);
}

template <class W, class V>
void check(int64_t columns, bool missed, bool unit) {
  INFO(columns << " columns, " << sizeof(W) << " and " << sizeof(V) << " bytes" << (missed ? ", missed" : ""));
  const float inverse = unit ? 0.7F : 0;
  std::vector<W> w = some<W>(columns, 1.3, 1);
  std::vector<V> v = some<V>(columns, 0.4, 2);
  const std::vector<float> u = some<float>(columns, 0.2, 3);
  const Expected before = caught_up(w, v, missed);

  std::vector<kernels::Bf16> operand(static_cast<size_t>(columns));
  const float squares =
      kernels::row_operand(missed ? &kMissed : nullptr, w.data(), missed ? v.data() : nullptr, columns, operand.data());
  double sum = 0;
  for (size_t d = 0; d < operand.size(); ++d) {
    sum += before.w[d] * before.w[d];
    CHECK(std::abs(value(operand[d]) - before.w[d]) <= std::abs(before.w[d]) / 255);
  }
  CHECK(std::abs(double{squares} - sum) < 1e-6 * sum);

  kernels::RowStep step;
  step.gradient = {u.data(), inverse, columns};
  step.rule = kRule;
  step.missed = missed ? &kMissed : nullptr;
  step.weights = kForWeights;
  step.momentum = kForMomentum;
  kernels::row_step(step, w.data(), v.data());
  const Expected after = stepped(before, u, double{inverse});
  compare(w, after.w, kForWeights);
  compare(v, after.v, kForMomentum);
}

TEST_CASE("a row's step and operand in every pair of types") {
  for (const int64_t columns : {1, 15, 16, 31, 32, 33, 64, 100, 512}) {
    for (const bool missed : {false, true}) {
      for (const bool unit : {false, true}) {
        check<float, float>(columns, missed, unit);
        check<float, kernels::Bf16>(columns, missed, unit);
        check<kernels::Bf16, float>(columns, missed, unit);
        check<kernels::Bf16, kernels::Bf16>(columns, missed, unit);
      }
    }
  }
}

TEST_CASE("what is rounded row by row is rounded as in a row's step") {
  const std::vector<float> w = some<float>(77, 1, 5);
  std::vector<kernels::Bf16> rounded(w.size());
  kernels::row_round(kForWeights, w.data(), 77, rounded.data());
  for (size_t d = 0; d < w.size(); ++d) {
    const uint32_t bits = math::rounding_bits(kForWeights, static_cast<int64_t>(d));
    CHECK(rounded[d] == math::float_to_bf16_stochastic(w[d], bits));
  }
}

}  // namespace
}  // namespace plsc::test
