// Test data on any device: random values, their rounding to a type, and comparison with stated tolerances.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "backend/device.h"
#include "kernels/math/bf16.h"
#include "kernels/math/rng.h"
#include "support/catch.h"

namespace plsc::test {

using Values = std::vector<double>;

/// One half unit in the last place of bf16 (8 bits of significand), as a fraction of the value: what storing costs.
constexpr double kBf16Rounding = 1.0 / 256;
/// The same of f16 (11 bits of significand).
constexpr double kF16Rounding = 1.0 / 2048;
/// fp32 arithmetic over a few hundred terms: rounding errors of 6e-8 each that mostly cancel.
constexpr double kFp32 = 2e-6;

constexpr double rounding_of(Dtype dtype) {
  return dtype == Dtype::bf16 ? kBf16Rounding : dtype == Dtype::f16 ? kF16Rounding : 0;
}

/// IEEE half precision by its definition (10 bits after the point, exponents from -14), not by any product's code.
inline uint16_t to_f16(double value) {
  const auto sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const auto with_sign = [sign](int bits) { return static_cast<uint16_t>(sign | bits); };
  if (std::isnan(value)) return with_sign(0x7E00);
  const double size = std::abs(value);
  const int exponent = size > 0 ? std::max(std::ilogb(size), -14) : -14;
  const double steps = exponent > 15 ? 4096 : std::nearbyint(std::ldexp(size, 10 - exponent));  // ties to even
  const double bits = (exponent + 14) * 1024.0 + steps;  // 1024 steps are the hidden bit: one exponent more
  return with_sign(bits >= 0x7C00 ? 0x7C00 : static_cast<int>(bits));
}
inline double from_f16(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const double special = fraction ? std::nan("") : std::numeric_limits<double>::infinity();
  const double size = exponent == 31  ? special
                      : exponent == 0 ? std::ldexp(fraction, -24)
                                      : std::ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -size : size;
}

inline float rounded(double value, Dtype dtype) {
  const auto f = static_cast<float>(value);
  if (dtype == Dtype::f16) return static_cast<float>(from_f16(to_f16(static_cast<double>(f))));
  return dtype == Dtype::bf16 ? math::bf16_to_float(math::float_to_bf16(f)) : f;
}

/// Uniform in [-1, 1) + mean, exactly representable in `dtype`, different for each seed.
inline Values random_values(const Shape& shape, uint64_t seed, Dtype dtype, double mean = 0) {
  Values v(static_cast<size_t>(shape.elements()));
  for (size_t i = 0; i < v.size(); ++i) {
    const auto bits = math::random4(seed, math::Draw::synthetic, 0, i).x[0];
    v[i] = static_cast<double>(rounded(mean + 2.0 * static_cast<double>(math::to_unit_float(bits)) - 1.0, dtype));
  }
  return v;
}

inline Tensor upload(Device& device, const Values& values, const Shape& shape, Dtype dtype = Dtype::f32) {
  REQUIRE(static_cast<int64_t>(values.size()) == shape.elements());
  Tensor host(host_allocator(), shape, dtype);
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == Dtype::f16) {
      static_cast<uint16_t*>(host.raw())[i] = to_f16(values[i]);
    } else if (dtype == Dtype::bf16) {
      host.data<bf16_t>()[i].bits = math::float_to_bf16(static_cast<float>(values[i]));
    } else if (dtype == Dtype::f64) {
      host.data<double>()[i] = values[i];
    } else {
      host.data<float>()[i] = static_cast<float>(values[i]);
    }
  }
  Tensor t = device.tensor(shape, dtype);
  device.copy(host, t);
  return t;
}

/// A tensor whose elements no op would write: so that a result that was not written shows.
inline Tensor garbage(Device& device, const Shape& shape, Dtype dtype = Dtype::f32) {
  return upload(device, Values(static_cast<size_t>(shape.elements()), 12345.0), shape, dtype);
}

inline Values download(Device& device, const Tensor& t) {
  Tensor host(host_allocator(), t.shape(), t.dtype());
  device.copy(t, host);
  device.synchronize();
  Values v(static_cast<size_t>(t.elements()));
  for (size_t i = 0; i < v.size(); ++i) {
    if (t.dtype() == Dtype::f64) {
      v[i] = host.data<double>()[i];
    } else if (t.dtype() == Dtype::f16) {
      v[i] = from_f16(static_cast<const uint16_t*>(host.raw())[i]);
    } else if (t.dtype() == Dtype::bf16) {
      v[i] = static_cast<double>(math::bf16_to_float(host.data<bf16_t>()[i].bits));
    } else {
      v[i] = static_cast<double>(host.data<float>()[i]);
    }
  }
  return v;
}

/// |actual - expected| <= relative |expected| + absolute * (root mean square of expected), everywhere.
inline void require_close(const Values& actual, const Values& expected, double relative, double absolute) {
  REQUIRE(actual.size() == expected.size());
  double squares = 0;
  for (double e : expected) squares += e * e;
  const double scale = std::sqrt(squares / static_cast<double>(std::max<size_t>(expected.size(), 1))) + 1e-30;
  size_t worst = 0;
  double excess = -1;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(actual[i] - expected[i]);
    const double over = error - relative * std::abs(expected[i]) - absolute * scale;
    if (!(over <= excess)) {  // a NaN is the worst of all
      excess = over;
      worst = i;
    }
  }
  if (actual.empty()) return;
  INFO("element " << worst << ": " << actual[worst] << ", expected " << expected[worst] << " (scale " << scale << ")");
  REQUIRE(excess <= 0);
}

/// The tolerance of an op whose output is stored as `dtype` and computed in fp32.
inline void require_stored(const Values& actual, const Values& expected, Dtype dtype, double absolute = 10 * kFp32) {
  require_close(actual, expected, rounding_of(dtype), absolute);
}

inline double dot(const Values& a, const Values& b) {
  REQUIRE(a.size() == b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// a + h b
inline Values moved(const Values& a, double h, const Values& b) {
  Values out = a;
  for (size_t i = 0; i < a.size(); ++i) out[i] += h * b[i];
  return out;
}

}  // namespace plsc::test
