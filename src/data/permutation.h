// A random permutation of [0, n) without memory: any element is computed on its own, so that an epoch's order costs
// nothing to store, to resume or to share between ranks.
#pragma once
#include <cstdint>

namespace plsc {

/// A Feistel network over Z_a x Z_b with a b just above n, walking the cycle until it falls below n: Black & Rogaway,
/// "Ciphers with Arbitrary Finite Domains", CT-RSA 2002 (FE1). Eight rounds of Philox; a b < n + sqrt(n) + 1, so that
/// hardly any index is walked twice.
class Permutation {
 public:
  Permutation(int64_t n, uint64_t seed, int64_t epoch);
  /// Where position i, in [0, n), goes.
  int64_t operator()(int64_t i) const;

 private:
  uint64_t once(uint64_t x) const;

  uint64_t n_, a_, b_;
  uint64_t seed_, epoch_;
};

}  // namespace plsc
