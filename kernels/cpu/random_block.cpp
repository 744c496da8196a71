// Compilers make 64-bit products of Philox's 32-bit ones, three times the work; so AVX-512's own instruction for these
// is called by name, and the plain loop is left to other processors.
#include "kernels/cpu/random_block.h"

#include <cstring>

#include "kernels/cpu/clones.h"

#if defined(__x86_64__) && !defined(PLSC_SANITIZE)
#include <immintrin.h>
#define PLSC_WIDE_DRAWS 1
#endif

namespace plsc::kernels {
namespace {

PLSC_CLONES void plain_block(const RandomBlock& block, uint64_t b, uint32_t* words) {
  uint32_t found[4][kBlockDraws];
  for (int64_t g = 0; g < kBlockDraws; ++g) {
    const math::Random4 draw = math::random4(block.seed, block.what, block.a, b + static_cast<uint64_t>(g));
    for (int k = 0; k < 4; ++k) found[k][g] = draw.x[k];
  }
  for (int64_t g = 0; g < kBlockDraws; ++g) {
    for (int k = 0; k < 4; ++k) words[4 * g + k] = found[k][g];
  }
}

#ifdef PLSC_WIDE_DRAWS

#define PLSC_AVX512 __attribute__((target("avx512f")))

using Lanes = uint64_t __attribute__((vector_size(64)));

/// Eight draws, a word in the lower half of each lane; what is in the upper halves does not matter.
struct EightDraws {
  Lanes c0, c1, c2, c3;
};

PLSC_AVX512 inline Lanes all(uint64_t value) { return Lanes{} + value; }

/// The products of the lower halves, all 64 bits of them.
PLSC_AVX512 inline Lanes product(Lanes a, uint32_t factor) {
  constexpr __mmask8 kAll = 0xFF;
  return reinterpret_cast<Lanes>(
      _mm512_maskz_mul_epu32(kAll, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(all(factor))));
}

PLSC_AVX512 inline EightDraws counters(uint64_t a, uint64_t b) {
  const Lanes count = all(b) + Lanes{0, 1, 2, 3, 4, 5, 6, 7};
  return {count, count >> 32, all(a), all(a >> 32)};
}

PLSC_AVX512 inline void round(EightDraws& d, uint32_t k0, uint32_t k1) {
  const Lanes p0 = product(d.c0, math::kPhiloxFactor0), p1 = product(d.c2, math::kPhiloxFactor1);
  d = {(p1 >> 32) ^ d.c1 ^ all(k0), p1, (p0 >> 32) ^ d.c3 ^ all(k1), p0};
}

PLSC_AVX512 inline void store(const EightDraws& d, uint32_t* words) {
  const Lanes low = all(0xFFFFFFFF);
  const Lanes front = (d.c0 & low) | (d.c1 << 32), back = (d.c2 & low) | (d.c3 << 32);
  const Lanes in_order[] = {__builtin_shufflevector(front, back, 0, 8, 1, 9, 2, 10, 3, 11),
                            __builtin_shufflevector(front, back, 4, 12, 5, 13, 6, 14, 7, 15)};
  std::memcpy(words, in_order, sizeof in_order);
}

PLSC_AVX512 void wide_block(const RandomBlock& block, uint64_t b, uint32_t* words) {
  const uint64_t key = math::draw_key(block.seed, block.what);
  auto k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  // Two of them at once keep the multiplier busy.
  EightDraws one = counters(block.a, b), two = counters(block.a, b + kBlockDraws / 2);
  for (int n = 0; n < math::kPhiloxRounds; ++n) {
    round(one, k0, k1);
    round(two, k0, k1);
    k0 += math::kPhiloxKey0;
    k1 += math::kPhiloxKey1;
  }
  store(one, words);
  store(two, words + kBlockWords / 2);
}

#endif

}  // namespace

void random_block(const RandomBlock& block, uint64_t b, uint32_t* words) {
#ifdef PLSC_WIDE_DRAWS
  static const bool wide = __builtin_cpu_supports("avx512f") != 0;
  if (wide) return wide_block(block, b, words);
#endif
  plain_block(block, b, words);
}

}  // namespace plsc::kernels
