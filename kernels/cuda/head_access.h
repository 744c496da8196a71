// Elements of rows in registers, for the .cu files of the head: one, or four at once in 16 bytes of fp32 or 8 of bf16.
// bf16 is held as its 16 bits, as kernels/math/bf16.h has it.
#pragma once
#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/math/bf16.h"

namespace plsc::kernels::cuda {

template <int N>
__device__ inline void load(const float* from, float (&to)[N]) {
  static_assert(N == 1 || N == 4);
  if constexpr (N == 4) {
    expect_aligned(from, 16);
    const float4 four = *reinterpret_cast<const float4*>(from);
    to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
  } else {
    to[0] = *from;
  }
}
template <int N>
__device__ inline void load(const uint16_t* from, float (&to)[N]) {
  static_assert(N == 1 || N == 4);
  if constexpr (N == 4) {
    expect_aligned(from, 8);
    const ushort4 four = *reinterpret_cast<const ushort4*>(from);
    to[0] = math::bf16_to_float(four.x), to[1] = math::bf16_to_float(four.y);
    to[2] = math::bf16_to_float(four.z), to[3] = math::bf16_to_float(four.w);
  } else {
    to[0] = math::bf16_to_float(*from);
  }
}

template <int N>
__device__ inline void store(float* to, const float (&from)[N]) {
  if constexpr (N == 4) {
    expect_aligned(to, 16);
    *reinterpret_cast<float4*>(to) = float4{from[0], from[1], from[2], from[3]};
  } else {
    *to = from[0];
  }
}
template <int N>
__device__ inline void store_bits(uint16_t* to, const uint16_t (&from)[N]) {
  if constexpr (N == 4) {
    expect_aligned(to, 8);
    *reinterpret_cast<ushort4*>(to) = ushort4{from[0], from[1], from[2], from[3]};
  } else {
    *to = from[0];
  }
}
/// Rounded to nearest.
template <int N>
__device__ inline void store(uint16_t* to, const float (&from)[N]) {
  uint16_t bits[N];
  for (int k = 0; k < N; ++k) bits[k] = math::float_to_bf16(from[k]);
  store_bits(to, bits);
}

/// Whether rows of so many columns that begin at these places can be read four elements at a time.
template <class... P>
bool in_fours(int64_t columns, const P*... rows) {
  constexpr uintptr_t kAligned = 16;
  return columns % 4 == 0 && ((reinterpret_cast<uintptr_t>(rows) % kAligned == 0) && ...);
}

/// A warp's place in a grid whose warps take rows in turn.
__device__ inline int64_t first_row() { return global_thread() / kWarp; }
__device__ inline int64_t row_step() { return grid_threads() / kWarp; }

/// Blocks of kThreads whose warps take a row each.
constexpr int64_t row_blocks(int64_t rows) { return blocks_for(rows, kThreads / kWarp); }

}  // namespace plsc::kernels::cuda
