// A few neighbouring elements in registers, read and written by 16-byte accesses.
#pragma once
#include "kernels/cuda/device.h"

namespace plsc::kernels::cuda {

/// kCount elements: 16 bytes or a multiple, less (one access of their size), or a single one. What is loaded or stored
/// is aligned to 16 bytes, or to the one access.
template <class T, int kCount>
struct Pack {
  static constexpr int kPart = kCount < kPerVec<T> ? kCount : kPerVec<T>;
  static_assert(kCount % kPart == 0);
  Vec<T, kPart> parts[kCount / kPart];

  __device__ __forceinline__ void load(const T* p) {
    PLSC_UNROLL
    for (int i = 0; i < kCount / kPart; ++i) parts[i] = load_vec<T, kPart>(p + i * kPart);
  }
  __device__ __forceinline__ void store(T* p) const {
    PLSC_UNROLL
    for (int i = 0; i < kCount / kPart; ++i) store_vec(p + i * kPart, parts[i]);
  }
  __device__ __forceinline__ T& operator[](int i) { return parts[i / kPart][i % kPart]; }
  __device__ __forceinline__ const T& operator[](int i) const { return parts[i / kPart][i % kPart]; }
  __device__ __forceinline__ float get(int i) const { return to_float((*this)[i]); }
  __device__ __forceinline__ void set(int i, float value) { (*this)[i] = from_float<T>(value); }
};

}  // namespace plsc::kernels::cuda
