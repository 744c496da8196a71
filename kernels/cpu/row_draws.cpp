// What is drawn for rows of class centres: first values, roundings to bf16, sampling keys; see head_rows.h. Without
// re-association, which kernels/math/normal.h does not bear.
#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/cpu/clones.h"
#include "kernels/cpu/head_rows.h"
#include "kernels/math/normal.h"
#include "kernels/math/stochastic_rounding.h"

namespace plsc::kernels {
namespace {

/// Draws that a loop makes at once, so that it vectorises.
constexpr int64_t kDraws = 16;

}  // namespace

PLSC_CLONES void row_round(const RoundedRow& row, const float* w, Bf16* to) {
  const RoundedRow local = row;
  for (int64_t first = 0; first < local.columns; first += 8 * kDraws) {
    const int64_t count = std::min(local.columns - first, 8 * kDraws);
    // Sixteen bits for a column, in order: the halves of a draw's words.
    uint32_t words[4][kDraws], bits[4 * kDraws];
    for (int64_t g = 0; g < kDraws; ++g) {
      const math::Random4 draw =
          math::rounding_bits(local.seed, local.update, local.class_id, local.columns, first / 8 + g, local.what);
      for (int k = 0; k < 4; ++k) words[k][g] = draw.x[k];
    }
    for (int64_t g = 0; g < kDraws; ++g) {
      for (int k = 0; k < 4; ++k) bits[4 * g + k] = words[k][g];
    }
    uint16_t halves[8 * kDraws];
    static_assert(std::endian::native == std::endian::little && sizeof halves == sizeof bits);
    std::memcpy(halves, bits, sizeof halves);
    const float* from = w + first;
    Bf16* out = to + first;
    for (int64_t k = 0; k < count; ++k) out[k] = math::float_to_bf16_stochastic(from[k], halves[k]);
  }
}

PLSC_CLONES void class_keys(uint64_t seed, int64_t step, int64_t first, int64_t count, uint32_t* keys) {
  // One draw serves four classes.
  for (int64_t group = first / 4; 4 * group < first + count; group += kDraws) {
    uint32_t words[4][kDraws], bits[4 * kDraws];
    for (int64_t g = 0; g < kDraws; ++g) {
      const math::Random4 draw =
          math::random4(seed, math::Draw::class_sample, static_cast<uint64_t>(step), static_cast<uint64_t>(group + g));
      for (int k = 0; k < 4; ++k) words[k][g] = draw.x[k];
    }
    for (int64_t g = 0; g < kDraws; ++g) {
      for (int k = 0; k < 4; ++k) bits[4 * g + k] = words[k][g];
    }
    const int64_t begin = std::max(first, 4 * group), end = std::min(first + count, 4 * (group + kDraws));
    std::copy(bits + (begin - 4 * group), bits + (end - 4 * group), keys + (begin - first));
  }
}

PLSC_CLONES void row_init(uint64_t seed, int64_t class_id, float std, int64_t columns, float* w) {
  for (int64_t first = 0; first < columns; first += 4 * kDraws) {
    uint32_t words[4][kDraws];
    double x[4][kDraws];
    for (int64_t g = 0; g < kDraws; ++g) {
      const math::Random4 draw = math::random4(seed, math::Draw::center_init, static_cast<uint64_t>(class_id),
                                               static_cast<uint64_t>(first / 4 + g));
      for (int k = 0; k < 4; ++k) words[k][g] = draw.x[k];
    }
    for (int64_t g = 0; g < kDraws; ++g) {
      const math::Normal4 n = math::normal4({{words[0][g], words[1][g], words[2][g], words[3][g]}});
      for (int k = 0; k < 4; ++k) x[k][g] = double{std} * n.x[k];
    }
    const int64_t count = std::min(columns - first, 4 * kDraws);
    for (int64_t d = 0; d < count; ++d) w[first + d] = static_cast<float>(x[d % 4][d / 4]);
  }
}

}  // namespace plsc::kernels
