// Threads: how many this process may use, and plain parallel loops over them.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

namespace plsc {

/// The cores of this process's affinity mask, in order; at least one.
std::vector<int> affinity_cores();
/// Cores that this process may use: its affinity mask, or its control group's quota of CPU time where that is lower
/// (rounded up); at least 1.
int available_cores();

/// Calls body(begin, end, part) on `parts` contiguous pieces of [0, n), in parallel (OpenMP), piece p on thread p.
/// Every part is called, with begin == end where n has fewer than `parts` elements.
/// The pieces depend on n and parts alone, so a reduction over parts in order is repeatable.
/// An exception in a body is re-thrown by the caller's thread: the one of the lowest part, after all parts are done.
void parallel_ranges(int64_t n, int parts, const std::function<void(int64_t begin, int64_t end, int part)>& body);

/// The begin of piece `part` of `parts` of [0, n): the first n mod parts pieces are one longer.
inline int64_t range_begin(int64_t n, int64_t parts, int64_t part) {
  const int64_t each = n / parts, extra = n % parts;
  return each * part + (part < extra ? part : extra);
}

}  // namespace plsc
