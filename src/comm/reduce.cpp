// Blocks that stay in the first-level cache: each part is read once, the result written once.
#include "comm/reduce.h"

#include <algorithm>
#include <array>

#include "kernels/math/bf16.h"

namespace plsc {
namespace {

constexpr int64_t kBlock = 1024;

struct Sum {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(a + b);
  }
};
// `b != b`: a NaN of any rank reaches all, so that a check for finite values sees it.
struct Max {
  template <class T>
  static T apply(T a, T b) {
    return a < b || b != b ? b : a;
  }
};
struct Min {
  template <class T>
  static T apply(T a, T b) {
    return b < a || b != b ? b : a;
  }
};

template <class T, class Op>
void reduce_typed(std::span<const void* const> parts, void* out, int64_t elements) {
  std::array<T, kBlock> sum;
  for (int64_t begin = 0; begin < elements; begin += kBlock) {
    const int64_t n = std::min(kBlock, elements - begin);
    std::copy_n(static_cast<const T*>(parts[0]) + begin, n, sum.data());
    for (const void* part : parts.subspan(1)) {
      const T* values = static_cast<const T*>(part) + begin;
      for (int64_t i = 0; i < n; ++i) {
        const auto at = static_cast<size_t>(i);
        sum[at] = Op::apply(sum[at], values[i]);
      }
    }
    std::copy_n(sum.data(), n, static_cast<T*>(out) + begin);
  }
}

template <class T>
void reduce_op(ReduceOp op, std::span<const void* const> parts, void* out, int64_t elements) {
  switch (op) {
    case ReduceOp::sum:
      return reduce_typed<T, Sum>(parts, out, elements);
    case ReduceOp::max:
      return reduce_typed<T, Max>(parts, out, elements);
    case ReduceOp::min:
      return reduce_typed<T, Min>(parts, out, elements);
  }
}

}  // namespace

void narrow_to_bf16(const float* from, uint16_t* to, int64_t elements) {
  for (int64_t i = 0; i < elements; ++i) to[i] = math::float_to_bf16(from[i]);
}

void widen_bf16(const uint16_t* from, float* to, int64_t elements) {
  for (int64_t i = 0; i < elements; ++i) to[i] = math::bf16_to_float(from[i]);
}

void sum_bf16(const uint16_t* parts, int ranks, int64_t elements, uint16_t* out) {
  std::array<float, kBlock> sum;
  for (int64_t begin = 0; begin < elements; begin += kBlock) {
    const int64_t n = std::min(kBlock, elements - begin);
    widen_bf16(parts + begin, sum.data(), n);
    for (int r = 1; r < ranks; ++r) {
      const uint16_t* part = parts + r * elements + begin;
      for (int64_t i = 0; i < n; ++i) sum[static_cast<size_t>(i)] += math::bf16_to_float(part[i]);
    }
    narrow_to_bf16(sum.data(), out + begin, n);
  }
}

bool can_reduce(Dtype dtype) { return dtype != Dtype::bf16 && dtype != Dtype::f16; }

void reduce_parts(Dtype dtype, ReduceOp op, std::span<const void* const> parts, void* out, int64_t elements) {
  switch (dtype) {
    case Dtype::f32:
      return reduce_op<float>(op, parts, out, elements);
    case Dtype::f64:
      return reduce_op<double>(op, parts, out, elements);
    case Dtype::i64:
      return reduce_op<int64_t>(op, parts, out, elements);
    case Dtype::i32:
      return reduce_op<int32_t>(op, parts, out, elements);
    case Dtype::u8:
      return reduce_op<uint8_t>(op, parts, out, elements);
    case Dtype::bf16:
    case Dtype::f16:
      break;
  }
  PLSC_CHECK(can_reduce(dtype), "a reduction of {}: its sum would lose what it is for; convert to f32 first",
             dtype_name(dtype));
}

}  // namespace plsc
