// The permutation of an epoch: see permutation.h.
#include "data/permutation.h"

#include <cmath>

#include "base/error.h"
#include "kernels/math/rng.h"

namespace plsc {
namespace {

constexpr uint64_t kRounds = 8;  // even: the halves end up where they began

}  // namespace

Permutation::Permutation(int64_t n, uint64_t seed, int64_t epoch)
    : n_(static_cast<uint64_t>(n)), seed_(seed), epoch_(static_cast<uint64_t>(epoch)) {
  PLSC_CHECK(n >= 1 && n < int64_t{1} << 52, "{} elements", n);
  a_ = static_cast<uint64_t>(std::ceil(std::sqrt(static_cast<double>(n))));
  b_ = (n_ + a_ - 1) / a_;
}

uint64_t Permutation::once(uint64_t x) const {
  uint64_t left = x % a_, right = x / a_;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t f = math::random64(seed_, math::Draw::permutation, epoch_, round << 56 | right);
    const uint64_t modulus = round % 2 == 0 ? a_ : b_;
    const uint64_t sum = (left + f % modulus) % modulus;
    left = right;
    right = sum;
  }
  return a_ * right + left;
}

int64_t Permutation::operator()(int64_t i) const {
  PLSC_CHECK(i >= 0 && static_cast<uint64_t>(i) < n_, "{} of {}", i, n_);
  auto x = static_cast<uint64_t>(i);
  do {
    x = once(x);
  } while (x >= n_);
  return static_cast<int64_t>(x);
}

}  // namespace plsc
