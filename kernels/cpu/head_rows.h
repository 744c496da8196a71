// The head's work on single rows of class centres: norms, catching up, the projected gradient, sampling keys, first
// values. (row_step.h: a stored row's operand and its step.)
#pragma once
#include <cstdint>

#include "kernels/cpu/element.h"
#include "kernels/math/catch_up.h"
#include "kernels/math/rng.h"
#include "kernels/math/sgd.h"

namespace plsc::kernels {

float row_dot(const float* a, const float* b, int64_t columns);

/// inverse[j] = math::inverse_norm(|row j|) of `rows` rows that lie one behind the other.
void row_inverse_norms(const float* weights, int64_t rows, int64_t columns, float* inverse);
void row_inverse_norms(const Bf16* weights, int64_t rows, int64_t columns, float* inverse);

/// to = the row as it is after the steps that `m` stands for; the row itself stays.
void row_caught_up(const math::CatchUpMatrix<float>& m, const float* w, const float* v, int64_t columns, float* to);
void row_catch_up(const math::CatchUpMatrix<float>& m, float* w, float* v, int64_t columns);

/// The gradient of a row behind its normalisation (kernels/math/normalize.h): u = d loss / d(w / |w|) / |w|. Without
/// one, which an inverse norm of 0 says, u is d loss / dw already.
struct RowGradient {
  const float* u = nullptr;
  float inverse_norm = 0;
  int64_t columns = 0;
};
void row_write_gradient(const RowGradient& gradient, const float* w, float* dw);
void row_add_gradient(const RowGradient& gradient, const float* w, float* dw);

/// Classes whose 32 random bits in this step are below `limit`; 2^32 takes all.
struct SampledClasses {
  uint64_t seed = 0;
  int64_t step = 0;
  uint64_t limit = 0;
};
/// Of classes [first, first + count) those that are sampled, ascending, to `found`, which has room for `count`.
/// Returns how many.
int64_t sampled_classes(const SampledClasses& sample, int64_t first, int64_t count, int64_t* found);

/// Column d of class c is std times a normal number that depends on (seed, c, d) alone.
void row_init(uint64_t seed, int64_t class_id, float std, int64_t columns, float* w);

/// y = x / |x|, with a floor below; returns |x|. And dx from dy.
float row_normalize(const float* x, int64_t columns, float* y);
void row_normalize_backward(const float* y, float norm, const float* dy, int64_t columns, float* dx);

}  // namespace plsc::kernels
