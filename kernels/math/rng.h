// Counter-based random numbers: a value is a pure function of (seed, purpose, a, b), so that nothing depends on the
// number of ranks or threads, or on what was drawn before. Philox4x32-10 of Salmon et al., "Parallel random numbers:
// as easy as 1, 2, 3", SC 2011.
#pragma once
#include <cstdint>

#include "kernels/math/host_device.h"

namespace plsc::math {

/// What a number is drawn for: streams of different purpose never meet.
enum class Draw : uint32_t {
  center_init = 1,         // (class, column)
  weight_init = 2,         // (parameter index, element)
  class_sample = 3,        // (step, class)
  dropout = 4,             // (step, (sample * features + feature) / 4): four elements a draw
  flip = 5,                // (epoch, position in the permutation)
  permutation = 6,         // (epoch, round key)
  replacement = 7,         // (epoch * attempts + attempt, position)
  synthetic = 8,           // (image, pixel block)
  glyph = 9,               // (class or image, stroke)
  pairs = 10,              // (pair, which)
  first_loss = 11,         // (sample, class)
  rounding = 12,           // (update, class): the key of a row's bits, see stochastic_rounding.h
  momentum_rounding = 13,  // the same
  neighbour_tie = 14,      // (step, class)
  graph_probe = 15,        // (step, draw)
};

struct Random4 {
  uint32_t x[4];
};

/// A class takes part where its 32 bits are below this: of those that are drawn evenly a share of `threshold`; 1 takes
/// all.
inline uint64_t sample_limit(double threshold) {
  constexpr double kAll = 4294967296.0;
  if (!(threshold > 0)) return 0;
  return static_cast<uint64_t>(threshold < 1 ? threshold * kAll : kAll);
}

// Philox's rounds: two products, whose halves change places, and keys that count up by these.
inline constexpr int kPhiloxRounds = 10;
inline constexpr uint32_t kPhiloxFactor0 = 0xD2511F53u, kPhiloxFactor1 = 0xCD9E8D57u;
inline constexpr uint32_t kPhiloxKey0 = 0x9E3779B9u, kPhiloxKey1 = 0xBB67AE85u;

PLSC_HD inline Random4 philox(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
  uint32_t c0 = static_cast<uint32_t>(counter_low), c1 = static_cast<uint32_t>(counter_low >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_high), c3 = static_cast<uint32_t>(counter_high >> 32);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t p0 = uint64_t{kPhiloxFactor0} * c0, p1 = uint64_t{kPhiloxFactor1} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += kPhiloxKey0;
    k1 += kPhiloxKey1;
  }
  return {{c0, c1, c2, c3}};
}

/// Philox's key. The purpose enters it by an odd multiple (splitmix finaliser).
PLSC_HD inline uint64_t draw_key(uint64_t seed, Draw purpose) {
  uint64_t k = seed + 0x9E3779B97F4A7C15ull * static_cast<uint64_t>(purpose);
  k = (k ^ (k >> 30)) * 0xBF58476D1CE4E5B9ull;
  k = (k ^ (k >> 27)) * 0x94D049BB133111EBull;
  return k ^ (k >> 31);
}

/// 128 random bits for (seed, purpose, a, b).
PLSC_HD inline Random4 random4(uint64_t seed, Draw purpose, uint64_t a, uint64_t b) {
  return philox(draw_key(seed, purpose), b, a);
}

PLSC_HD inline uint64_t random64(uint64_t seed, Draw purpose, uint64_t a, uint64_t b) {
  const Random4 r = random4(seed, purpose, a, b);
  return (static_cast<uint64_t>(r.x[1]) << 32) | r.x[0];
}

/// Uniform in [0, 1) with 24 bits: exact in fp32, so that CPU and GPU agree bit for bit.
PLSC_HD inline float to_unit_float(uint32_t bits) { return static_cast<float>(bits >> 8) * (1.0f / 16777216.0f); }
/// Uniform in [0, 1) with 53 bits.
PLSC_HD inline double to_unit_double(uint64_t bits) {
  return static_cast<double>(bits >> 11) * (1.0 / 9007199254740992.0);
}

}  // namespace plsc::math
