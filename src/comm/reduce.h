// Element-wise reduction of several ranks' values on the host, in rank order: the same bits whatever library carried
// the values, however a tensor was cut, and whichever rank computes it.
#pragma once
#include <cstdint>
#include <span>

#include "comm/collective.h"

namespace plsc {

/// out[i] = parts[0][i] op parts[1][i] op ..., left to right. `out` may be one of the parts. Max and min hand a NaN on.
/// LogicError for types that are not reduced (bf16, f16: see the head's and the buckets' 16-bit forms).
void reduce_parts(Dtype dtype, ReduceOp op, std::span<const void* const> parts, void* out, int64_t elements);

// The parts of an all-reduce in bf16 (math::float_to_bf16), as 16-bit patterns.

void narrow_to_bf16(const float* from, uint16_t* to, int64_t elements);
void widen_bf16(const uint16_t* from, float* to, int64_t elements);
/// out[i] = bf16(((p_0[i] + p_1[i]) + p_2[i]) + ...) in fp32, with part r at parts + r * elements. `out` may not
/// overlap.
void sum_bf16(const uint16_t* parts, int ranks, int64_t elements, uint16_t* out);

/// Bytes of a reduction that are under way at once on the host: they bound its buffers.
inline constexpr int64_t kReductionSlab = int64_t{16} << 20;

/// An all-reduce over MPI of so many bytes or fewer: one exchange of everything is faster than two of shares.
inline constexpr int64_t kSmallAllReduce = int64_t{16} << 10;

/// Whether reduce_parts takes this type.
bool can_reduce(Dtype dtype);

}  // namespace plsc
