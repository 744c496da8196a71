// Kernels that the emulator's tests run: right ones, for everything that the kernel language has, and wrong ones. The
// sources are compiled by nvcc as well, which shows that what the emulator takes is CUDA.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace plsc::kernels::cuda::test {

/// What each thread of a block of 64 got from the others; `values` has 64, made from the thread's number.
struct Exchanged {
  float* xor_float;         // of lane ^ 5
  double* down_double;      // of lane + 3, or its own
  int* from_int;            // of lane 7
  unsigned* from_unsigned;  // of lane (own + 9) % 32
  int64_t* xor_wide;        // of lane ^ 16
  float* down_in_eight;     // of lane + 2 within groups of 8, or its own
  unsigned* ballot;         // lanes whose number is a multiple of 3
  int* any_all;             // 4 bits: any of none, any of one, all but one, all
};
void exchange(const Exchanged& out, cudaStream_t stream);

/// For i < n: out = {popc, ffs, clz} of x[i].
void bits(const unsigned* x, int* out, int64_t n, cudaStream_t stream);
/// y[i] = rsqrtf(x[i]) + sqrtf(x[i]) + fmaxf(x[i], 1) + fminf(x[i], 1) + fabsf(-x[i]).
void arithmetic(const float* x, float* y, int64_t n, cudaStream_t stream);

/// One row a block: sums[row] and largest[row] of n values each, by `threads` threads; every thread looks that it got
/// the same, and counts in `differing` where it did not.
struct Rows {
  const float* x;
  int64_t rows;
  int64_t n;
  double* sums;
  float* float_sums;
  float* largest;
  int* differing;
};
void reduce_rows(const Rows& rows, int threads, cudaStream_t stream);

/// y = x * factor, by vectors of 16 bytes and one by one for the rest.
void scale(const float* x, float* y, int64_t n, float factor, cudaStream_t stream);
void scale(const __half* x, __half* y, int64_t n, float factor, cudaStream_t stream);
void scale(const __nv_bfloat16* x, __nv_bfloat16* y, int64_t n, float factor, cudaStream_t stream);

/// Each block's `threads` values in the opposite order, by dynamic shared memory.
void reverse(const double* x, double* y, int64_t blocks, int threads, cudaStream_t stream);

/// What every thread adds, takes the largest of, or marks; zeroed by the caller.
struct Tallies {
  float* add_float;
  double* add_double;
  int* add_int;
  unsigned* add_unsigned;
  unsigned long long* add_wide;
  int* max_int;
  unsigned* max_unsigned;
  unsigned* or_unsigned;
};
void tally(const Tallies& out, int64_t blocks, int threads, cudaStream_t stream);

/// visits[(y * blocks + x) * threads + thread] += 1.
void visit(int* visits, int64_t blocks, int64_t blocks_y, int threads, cudaStream_t stream);
/// order[k] = the k-th thread of the grid (its number in it) to begin; `next` is a zeroed counter.
void note_order(int* order, int* next, int64_t blocks, int threads, cudaStream_t stream);
/// out[thread of the grid] = what static and dynamic shared memory hold before anyone wrote (added up).
void read_unwritten(float* out, int64_t blocks, cudaStream_t stream);
/// Every thread waits `times` times at the block's barrier, or adds up over its warp as often.
void wait_often(int64_t times, int threads, cudaStream_t stream);
void sum_often(float* out, int64_t times, int threads, cudaStream_t stream);

/// Kernels with an error each. `out` has room for 1024 numbers.
enum class Mistake {
  thread_ends_before_barrier,
  thread_ends_while_others_wait,
  different_barriers,
  lane_ends_before_shuffle,
  lane_ends_while_others_shuffle,
  different_exchanges,
  different_types,
  shuffle_and_barrier,
  barrier_and_shuffle,
  some_lanes_in_mask,
  endless,
  writes_behind_shared,
  writes_before_shared,
  reads_behind_shared,
  misaligned_vector,
  misaligned_atomic,
  large_stack,
  no_memory,
};
void err(Mistake mistake, float* out, cudaStream_t stream);
/// Reads what the neighbouring lane wrote without a __syncwarp between: right in lock-step alone.
void rely_on_lock_step(float* out, cudaStream_t stream);

/// Kernels of 64 threads that write `out` after they talked through shared memory, with a race or without.
enum class Race {
  none_by_warp_barrier,
  read_before_barrier,
  written_again_before_barrier,
  shuffle_is_no_barrier,
  warp_barrier_between_warps,
  same_output,
};
void race(Race kind, float* out, cudaStream_t stream);

}  // namespace plsc::kernels::cuda::test
