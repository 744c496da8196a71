// PLSC_HD marks a function that runs on the host and, compiled by nvcc, on the device. PLSC_HD_INLINE marks one of a
// few operations that loops call for every element: inlined whatever the compiler thinks, or the loop would not
// vectorise.
#pragma once

#ifdef __CUDACC__
#define PLSC_HD __host__ __device__
#define PLSC_HD_INLINE __host__ __device__ __forceinline__
#else
#define PLSC_HD
#define PLSC_HD_INLINE inline __attribute__((always_inline))
#endif
