// Kernels over flat ranges: addition, conversion, sums, SGD, dropout. One thread's piece each; the callers split.
#pragma once
#include <cstdint>

#include "kernels/cpu/element.h"
#include "kernels/math/sgd.h"

namespace plsc::kernels {

/// y += x
void add(const float* x, float* y, int64_t n);
void add(const double* x, double* y, int64_t n);
void add(const double* x, float* y, int64_t n);

void cast(const float* from, Bf16* to, int64_t n);
void cast(const Bf16* from, float* to, int64_t n);
void cast(const double* from, float* to, int64_t n);

/// Sum of x[i]^2 in double; of fp32 values, to which doubles are rounded.
double sum_of_squares(const float* x, int64_t n);
double sum_of_squares(const double* x, int64_t n);

/// math::sgd_update on n elements; a gradient in double is rounded to fp32 first.
void sgd(const math::SgdRule& rule, const float* grad, float* value, float* momentum, int64_t n);
void sgd(const math::SgdRule& rule, const double* grad, float* value, float* momentum, int64_t n);

/// Dropout (kernels/math/dropout.h) of elements [first, first + n) of the global batch's flattened features. x and y
/// point at element `first`, and may be the same.
struct DropoutRange {
  uint64_t seed = 0;
  uint64_t step = 0;
  uint64_t first = 0;
  int64_t n = 0;
  float p = 0;
};
void dropout(const DropoutRange& range, const float* x, float* y);
void dropout(const DropoutRange& range, const Bf16* x, Bf16* y);

}  // namespace plsc::kernels
