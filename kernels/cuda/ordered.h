// Searching ascending numbers. Device code alone.
#pragma once
#include <cstdint>

#include "kernels/cuda/launch.h"

namespace plsc::kernels::cuda {

/// The first place in ascending `values` that is not below `value`.
__device__ inline int64_t lower_bound(const int64_t* values, int64_t count, int64_t value) {
  int64_t begin = 0;
  while (count > 0) {
    const int64_t half = count / 2;
    if (values[begin + half] < value) {
      begin += half + 1;
      count -= half + 1;
    } else {
      count = half;
    }
  }
  return begin;
}

/// Where `value` is in `values`; -1 where it is not there.
__device__ inline int64_t place_of(const int64_t* values, int64_t count, int64_t value) {
  const int64_t place = lower_bound(values, count, value);
  return place < count && values[place] == value ? place : -1;
}

}  // namespace plsc::kernels::cuda
