// What is drawn for rows of class centres: first values, sampling keys; see head_rows.h. Without
// re-association, which kernels/math/normal.h does not bear.
#include <algorithm>

#include "kernels/cpu/clones.h"
#include "kernels/cpu/head_rows.h"
#include "kernels/cpu/random_block.h"
#include "kernels/math/normal.h"

namespace plsc::kernels {

PLSC_CLONES int64_t sampled_classes(const SampledClasses& sample, int64_t first, int64_t count, int64_t* found) {
  constexpr int64_t kLook = 16;  // keys, of which most often none is low enough
  const RandomBlock draws{sample.seed, math::Draw::class_sample, static_cast<uint64_t>(sample.step)};
  int64_t number = 0;
  for (int64_t group = first / 4; 4 * group < first + count; group += kBlockDraws) {
    uint32_t keys[kBlockWords];  // of classes from 4 group on: one draw serves four
    random_block(draws, static_cast<uint64_t>(group), keys);
    for (int64_t look = 0; look < kBlockWords; look += kLook) {
      uint32_t least = keys[look];
      for (int64_t k = 1; k < kLook; ++k) least = std::min(least, keys[look + k]);
      if (least >= sample.limit) continue;
      const int64_t begin = std::max(first, 4 * group + look), end = std::min(first + count, 4 * group + look + kLook);
      for (int64_t c = begin; c < end; ++c) {
        found[number] = c;
        number += keys[c - 4 * group] < sample.limit ? 1 : 0;
      }
    }
  }
  return number;
}

PLSC_CLONES void row_init(uint64_t seed, int64_t class_id, float std, int64_t columns, float* w) {
  const RandomBlock draws{seed, math::Draw::center_init, static_cast<uint64_t>(class_id)};
  for (int64_t first = 0; first < columns; first += kBlockWords) {
    uint32_t words[kBlockWords];
    double x[4][kBlockDraws];
    random_block(draws, static_cast<uint64_t>(first / 4), words);
    for (int64_t g = 0; g < kBlockDraws; ++g) {
      const math::Normal4 n = math::normal4({{words[4 * g], words[4 * g + 1], words[4 * g + 2], words[4 * g + 3]}});
      for (int k = 0; k < 4; ++k) x[k][g] = double{std} * n.x[k];
    }
    const int64_t count = std::min(columns - first, kBlockWords);
    for (int64_t d = 0; d < count; ++d) w[first + d] = static_cast<float>(x[d % 4][d / 4]);
  }
}

}  // namespace plsc::kernels
