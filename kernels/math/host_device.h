// PLSC_HD marks a function that runs on the host and, compiled by nvcc, on the device.
#pragma once

#ifdef __CUDACC__
#define PLSC_HD __host__ __device__
#else
#define PLSC_HD
#endif
