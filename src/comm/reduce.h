// Element-wise reduction of several ranks' values on the host, in rank order: the same bits whatever library carried
// the values, however a tensor was cut, and whichever rank computes it.
#pragma once
#include <span>

#include "comm/collective.h"

namespace plsc {

/// out[i] = parts[0][i] op parts[1][i] op ..., left to right. `out` may be one of the parts. Max and min hand a NaN on.
/// LogicError for types that are not reduced (bf16, f16: see the head's and the buckets' 16-bit forms).
void reduce_parts(Dtype dtype, ReduceOp op, std::span<const void* const> parts, void* out, int64_t elements);

/// Bytes of a reduction that are under way at once on the host: they bound its buffers.
inline constexpr int64_t kReductionSlab = int64_t{16} << 20;

/// Whether reduce_parts takes this type.
bool can_reduce(Dtype dtype);

}  // namespace plsc
