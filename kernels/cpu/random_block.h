// Many draws of kernels/math/rng.h at once: sampling takes millions of them a step, first values billions.
#pragma once
#include <cstdint>

#include "kernels/math/rng.h"

namespace plsc::kernels {

inline constexpr int64_t kBlockDraws = 16;
inline constexpr int64_t kBlockWords = 4 * kBlockDraws;

/// What stays the same from draw to draw: math::random4(seed, what, a, b) for b that count up.
struct RandomBlock {
  uint64_t seed = 0;
  math::Draw what = math::Draw::class_sample;
  uint64_t a = 0;
};
/// words[4 g + k] = word k of draw b + g, for kBlockDraws draws. 64 words, of any alignment.
void random_block(const RandomBlock& block, uint64_t b, uint32_t* words);

}  // namespace plsc::kernels
