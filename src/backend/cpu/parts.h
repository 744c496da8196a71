// Splitting a loop over threads. The pieces depend on the size and the number of threads alone, and small loops stay
// on the caller's thread, where waking the others would take longer than the work.
#pragma once
#include <algorithm>

#include "base/threads.h"

namespace plsc {

inline constexpr int64_t kBytesPerPart = 256 << 10;
inline constexpr int64_t kElementsPerPart = 16 << 10;

/// How many pieces: at most `threads`, each of at least `grain` of the n items.
inline int parts_for(int64_t n, int64_t grain, int threads) {
  return static_cast<int>(std::clamp<int64_t>(n / std::max<int64_t>(grain, 1), 1, threads));
}

/// body(begin, end, part) on the pieces of [0, n).
template <class Body>
void for_parts(int64_t n, int64_t grain, int threads, const Body& body) {
  parallel_ranges(n, parts_for(n, grain, threads), body);
}

}  // namespace plsc
