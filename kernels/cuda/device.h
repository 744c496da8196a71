// What kernels share: sums over a warp or a block in an order that never changes, loads and stores of 16 bytes, and the
// way between the element types and fp32. Device code alone: only .cu files include this.
#pragma once
#include "kernels/cuda/launch.h"

namespace plsc::kernels::cuda {

/// This thread's place in its warp, and its warp's in the block.
__device__ inline int lane_id() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ inline int warp_id() { return static_cast<int>(threadIdx.x) / kWarp; }

inline constexpr unsigned kAllLanes = 0xffffffffu;

/// The sum over the warp's 32 lanes, the same bits in each. All lanes call it. T: float, double, int, unsigned,
/// int64_t.
template <class T>
__device__ inline T warp_sum(T value) {
  PLSC_UNROLL
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

/// The largest over the warp's 32 lanes. Where a lane has NaN, some lanes may get it and others not.
template <class T>
__device__ inline T warp_max(T value) {
  PLSC_UNROLL
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, value, distance);
    value = other > value ? other : value;
  }
  return value;
}

/// The sum over the block's threads, the same bits in each. All threads call it; it contains barriers, so what was
/// written to shared memory before it is seen by all after it.
template <class T>
__device__ inline T block_sum(T value) {
  __shared__ T partial[kWarp];
  value = warp_sum(value);
  __syncthreads();  // until here the threads of an earlier call may still read
  if (lane_id() == 0) partial[warp_id()] = value;
  __syncthreads();
  return warp_sum(lane_id() < static_cast<int>(blockDim.x) / kWarp ? partial[lane_id()] : T{0});
}

/// The largest over the block's threads, in each; the same rules.
template <class T>
__device__ inline T block_max(T value) {
  __shared__ T partial[kWarp];
  value = warp_max(value);
  __syncthreads();
  if (lane_id() == 0) partial[warp_id()] = value;
  __syncthreads();
  return warp_max(lane_id() < static_cast<int>(blockDim.x) / kWarp ? partial[lane_id()] : value);
}

/// N elements that move as one access: kPerVec<T> of them are 16 bytes (4 float, 8 of the half types).
template <class T, int N>
struct alignas(sizeof(T) * N) Vec {
  T at[N];
  __device__ T& operator[](int i) { return at[i]; }
  __device__ const T& operator[](int i) const { return at[i]; }
};
template <class T>
inline constexpr int kPerVec = static_cast<int>(16 / sizeof(T));

/// Whether p may be read or written as whole 16-byte vectors.
__host__ __device__ inline bool is_vec_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

/// p is aligned to sizeof(Vec<T, N>).
template <class T, int N = kPerVec<T>>
__device__ inline Vec<T, N> load_vec(const T* p) {
  expect_aligned(p, sizeof(Vec<T, N>));
  return *reinterpret_cast<const Vec<T, N>*>(p);
}
template <class T, int N>
__device__ inline void store_vec(T* p, const Vec<T, N>& value) {
  expect_aligned(p, sizeof(Vec<T, N>));
  *reinterpret_cast<Vec<T, N>*>(p) = value;
}

/// An element as fp32, and back: rounded to the nearest, ties to even.
__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(__half value) { return __half2float(value); }
__device__ inline float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

template <class T>
__device__ inline T from_float(float value) {
  if constexpr (std::is_same_v<T, __half>) {
    return __float2half(value);
  } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16(value);
  } else {
    static_assert(std::is_same_v<T, float>, "float, __half or __nv_bfloat16");
    return value;
  }
}

}  // namespace plsc::kernels::cuda
