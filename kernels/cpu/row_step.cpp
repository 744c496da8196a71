// See row_step.h. Loops over blocks of columns whose values stay in registers.
#include "kernels/cpu/row_step.h"

#include <algorithm>

#include "kernels/math/normalize.h"

namespace plsc::kernels {
namespace {

constexpr int64_t kBlock = math::kRoundedTogether;

struct Element {
  float w, v;
};
template <bool kMissed, class W, class V>
PLSC_INLINE Element element(const math::CatchUpMatrix<float>& missed, const W* w, const V* v, int64_t d) {
  Element e{load(w[d]), 0};
  if (kMissed) {
    e.v = load(v[d]);
    math::catch_up(missed, e.w, e.v);
  }
  return e;
}

template <bool kMissed, class W, class V>
PLSC_INLINE float operand(const math::CatchUpMatrix<float>& missed, const W* w, const V* v, int64_t columns, Bf16* to) {
  float squares = 0;
  for (int64_t d = 0; d < columns; ++d) {
    const float value = element<kMissed>(missed, w, v, d).w;
    squares += value * value;
    store(value, to[d]);
  }
  return squares;
}
template <class W, class V>
PLSC_INLINE float any_operand(const math::CatchUpMatrix<float>* missed, const W* w, const V* v, int64_t columns,
                              Bf16* to) {
  return missed == nullptr ? operand<false>({}, w, v, columns, to) : operand<true>(*missed, w, v, columns, to);
}

PLSC_INLINE void keep(const math::RowRandom&, int64_t, int64_t count, const float* values, float* to) {
  for (int64_t k = 0; k < count; ++k) to[k] = values[k];
}
/// Columns [first, first + count), first a multiple of a block's.
PLSC_INLINE void keep(const math::RowRandom& random, int64_t first, int64_t count, const float* values, Bf16* to) {
  constexpr int64_t kHalf = kBlock / 2;
  // All in 32 bits, so that vectors are as wide as can be; narrowed behind.
  uint32_t wide[kBlock];
  for (int64_t k = 0; k < kHalf; ++k) {
    const uint32_t word = math::rounding_word(random, static_cast<uint32_t>(first / 2 + k));
    wide[k] = math::add_below_bf16(values[k], word & 0xFFFFU);
    wide[kHalf + k] = math::add_below_bf16(values[kHalf + k], word >> 16);
  }
  if (count == kBlock) {
    for (int64_t k = 0; k < kBlock; ++k) to[k] = static_cast<Bf16>(wide[k] >> 16);
  } else {
    for (int64_t k = 0; k < count; ++k) to[k] = static_cast<Bf16>(wide[k] >> 16);
  }
}

template <bool kMissed, class W, class V>
PLSC_INLINE void step_block(const RowStep& s, float along, int64_t first, int64_t count, W* w, V* v) {
  float weights[kBlock] = {}, momentum[kBlock] = {};
  const auto change = [&](int64_t k) __attribute__((always_inline)) {
    const int64_t d = first + k;
    Element e{load(w[d]), load(v[d])};
    if (kMissed) math::catch_up(*s.missed, e.w, e.v);
    math::sgd_update(s.rule, math::row_gradient(s.gradient.u[d], along, e.w), e.w, e.v);
    weights[k] = e.w;
    momentum[k] = e.v;
  };
  if (count == kBlock) {
    for (int64_t k = 0; k < kBlock; ++k) change(k);
  } else {
    for (int64_t k = 0; k < count; ++k) change(k);
  }
  keep(s.weights, first, count, weights, w + first);
  keep(s.momentum, first, count, momentum, v + first);
}

template <bool kMissed, class W, class V>
PLSC_INLINE void step(const RowStep& given, W* w, V* v) {
  const RowStep s = given;
  const int64_t columns = s.gradient.columns;
  float along = 0;
  if (s.gradient.inverse_norm != 0) {
    const math::CatchUpMatrix<float> missed = kMissed ? *s.missed : math::CatchUpMatrix<float>{};
    float dot = 0;
    for (int64_t d = 0; d < columns; ++d) dot += s.gradient.u[d] * element<kMissed>(missed, w, v, d).w;
    along = math::along_row(dot, s.gradient.inverse_norm);
  }
  int64_t first = 0;
  for (; first + kBlock <= columns; first += kBlock) step_block<kMissed>(s, along, first, kBlock, w, v);
  if (first < columns) step_block<kMissed>(s, along, first, columns - first, w, v);
}
template <class W, class V>
PLSC_INLINE void any_step(const RowStep& s, W* w, V* v) {
  s.missed == nullptr ? step<false>(s, w, v) : step<true>(s, w, v);
}

}  // namespace

PLSC_CLONES float row_operand(const math::CatchUpMatrix<float>* missed, const float* w, const float* v, int64_t columns,
                              Bf16* to) {
  return any_operand(missed, w, v, columns, to);
}
PLSC_CLONES float row_operand(const math::CatchUpMatrix<float>* missed, const float* w, const Bf16* v, int64_t columns,
                              Bf16* to) {
  return any_operand(missed, w, v, columns, to);
}
PLSC_CLONES float row_operand(const math::CatchUpMatrix<float>* missed, const Bf16* w, const float* v, int64_t columns,
                              Bf16* to) {
  return any_operand(missed, w, v, columns, to);
}
PLSC_CLONES float row_operand(const math::CatchUpMatrix<float>* missed, const Bf16* w, const Bf16* v, int64_t columns,
                              Bf16* to) {
  return any_operand(missed, w, v, columns, to);
}

PLSC_CLONES void row_step(const RowStep& s, float* w, float* v) { any_step(s, w, v); }
PLSC_CLONES void row_step(const RowStep& s, float* w, Bf16* v) { any_step(s, w, v); }
PLSC_CLONES void row_step(const RowStep& s, Bf16* w, float* v) { any_step(s, w, v); }
PLSC_CLONES void row_step(const RowStep& s, Bf16* w, Bf16* v) { any_step(s, w, v); }

PLSC_CLONES void row_round(const math::RowRandom& random, const float* w, int64_t columns, Bf16* to) {
  for (int64_t first = 0; first < columns; first += kBlock) {
    const int64_t count = std::min(kBlock, columns - first);
    float values[kBlock] = {};
    for (int64_t k = 0; k < count; ++k) values[k] = w[first + k];
    keep(random, first, count, values, to + first);
  }
}

}  // namespace plsc::kernels
