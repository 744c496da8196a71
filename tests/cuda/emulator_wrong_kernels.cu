// Each kernel has one error, which the emulator must find. All are valid CUDA to the compiler.
#include "emulator_kernels.h"
#include "kernels/cuda/device.h"

namespace plsc::kernels::cuda::test {
namespace {

using Kernel = void (*)(float*);

__global__ void thread_ends_before_barrier(float* out) {
  // Warp 0 is done before warp 1 comes to the barrier, or the other way round.
  if (threadIdx.x < 32) return;
  __syncthreads();
  out[threadIdx.x] = 1.0f;
}

__global__ void thread_ends_while_others_wait(float* out) {
  if (threadIdx.x == 63) return;
  __syncthreads();
  out[threadIdx.x] = 1.0f;
}

__global__ void different_barriers(float* out) {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
    out[threadIdx.x] = 1.0f;
  } else {
    __syncthreads();
    out[threadIdx.x] = 2.0f;
  }
}

__global__ void lane_ends_before_shuffle(float* out) {
  if (threadIdx.x >= 20) return;
  out[threadIdx.x] = warp_sum(1.0f);
}

__global__ void lane_ends_while_others_shuffle(float* out) {
  if (threadIdx.x == 20) return;
  out[threadIdx.x] = __shfl_sync(kAllLanes, 1.0f, 0);
}

__global__ void different_exchanges(float* out) {
  if (threadIdx.x < 16) {
    out[threadIdx.x] = __shfl_xor_sync(kAllLanes, 1.0f, 1);
  } else {
    out[threadIdx.x] = __shfl_down_sync(kAllLanes, 1.0f, 1);
  }
}

__global__ void different_types(float* out) {
  // clang-format off
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(kAllLanes, 1.0f, 1); else out[threadIdx.x] = static_cast<float>(__shfl_sync(kAllLanes, 1.0, 1));
  // clang-format on
}

__global__ void shuffle_and_barrier(float* out) {
  if (threadIdx.x % 32 < 30) {
    out[threadIdx.x] = __shfl_sync(kAllLanes, 1.0f, 0);
  } else {
    __syncthreads();
  }
}

__global__ void barrier_and_shuffle(float* out) {
  if (threadIdx.x % 32 < 2) {
    out[threadIdx.x] = __shfl_sync(kAllLanes, 1.0f, 0);
  } else {
    __syncthreads();
  }
}

__global__ void some_lanes_in_mask(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(0x0000FFFFu, 1.0f, 1);
}

__global__ void endless(float* out) {
  while (__any_sync(kAllLanes, out[0] == 0.0f)) __syncthreads();
}

__global__ void writes_behind_shared(float*) {
  PLSC_DYNAMIC_SHARED(float, values);
  values[threadIdx.x] = 1.0f;  // the last thread is one too many
}

__global__ void writes_before_shared(float*) {
  PLSC_DYNAMIC_SHARED(float, values);
  values[static_cast<int>(threadIdx.x) - 1] = 1.0f;
}

__global__ void reads_behind_shared(float* out) {
  PLSC_DYNAMIC_SHARED(float, values);
  out[threadIdx.x] = values[threadIdx.x + 4];
}

__global__ void misaligned_vector(float* out) { store_vec(out + 1, load_vec(out)); }

__global__ void misaligned_atomic(float* out) {
  atomicAdd(reinterpret_cast<float*>(reinterpret_cast<char*>(out) + 2), 1.0f);
}

__global__ void large_stack(float* out) {
  volatile float numbers[68000];
  for (int i = 67999; i >= 0; --i) numbers[i] = out[0];
  out[threadIdx.x] = numbers[threadIdx.x];
}

__global__ void no_memory(float* out) { out[threadIdx.x + (int64_t{1} << 45)] = 1.0f; }

__global__ void rely_on_lock_step_kernel(float* out) {
  __shared__ float values[32];
  values[threadIdx.x] = static_cast<float>(threadIdx.x);
  out[threadIdx.x] = values[(threadIdx.x + 1) % 32];
}

// Each thread writes its number and reads another's. What lies between depends on the kind.
__global__ void race_kernel(Race kind, float* out) {
  __shared__ float values[64];
  const int own = static_cast<int>(threadIdx.x);
  const int neighbour = own / kWarp * kWarp + (own + 1) % kWarp;
  const int other_warp = (own + kWarp) % 64;
  values[own] = static_cast<float>(own);
  if (kind == Race::none_by_warp_barrier) {
    __syncwarp();
    out[own] = values[neighbour];
  } else if (kind == Race::read_before_barrier) {
    out[own] = values[other_warp];
  } else if (kind == Race::written_again_before_barrier) {
    __syncthreads();
    out[own] = values[other_warp];
    values[own] = 0.0f;
  } else if (kind == Race::shuffle_is_no_barrier) {
    const float one = __shfl_sync(kAllLanes, 1.0f, 0);
    out[own] = values[neighbour] + one;
  } else if (kind == Race::warp_barrier_between_warps) {
    __syncwarp();
    out[own] = values[other_warp];
  } else {
    out[own / 2] = values[own];
  }
}

Kernel kernel_with(Mistake mistake) {
  switch (mistake) {
    case Mistake::thread_ends_before_barrier:
      return thread_ends_before_barrier;
    case Mistake::thread_ends_while_others_wait:
      return thread_ends_while_others_wait;
    case Mistake::different_barriers:
      return different_barriers;
    case Mistake::lane_ends_before_shuffle:
      return lane_ends_before_shuffle;
    case Mistake::lane_ends_while_others_shuffle:
      return lane_ends_while_others_shuffle;
    case Mistake::different_exchanges:
      return different_exchanges;
    case Mistake::different_types:
      return different_types;
    case Mistake::shuffle_and_barrier:
      return shuffle_and_barrier;
    case Mistake::barrier_and_shuffle:
      return barrier_and_shuffle;
    case Mistake::some_lanes_in_mask:
      return some_lanes_in_mask;
    case Mistake::endless:
      return endless;
    case Mistake::writes_behind_shared:
      return writes_behind_shared;
    case Mistake::writes_before_shared:
      return writes_before_shared;
    case Mistake::reads_behind_shared:
      return reads_behind_shared;
    case Mistake::misaligned_vector:
      return misaligned_vector;
    case Mistake::misaligned_atomic:
      return misaligned_atomic;
    case Mistake::large_stack:
      return large_stack;
    case Mistake::no_memory:
      return no_memory;
  }
  return nullptr;
}

}  // namespace

void err(Mistake mistake, float* out, cudaStream_t stream) {
  // 63 floats for 64 threads.
  launch(kernel_with(mistake), {.threads = 64, .shared = 63 * sizeof(float)}, stream, out);
}

void race(Race kind, float* out, cudaStream_t stream) { launch(race_kernel, {.threads = 64}, stream, kind, out); }

void rely_on_lock_step(float* out, cudaStream_t stream) {
  launch(rely_on_lock_step_kernel, {.threads = 32}, stream, out);
}

}  // namespace plsc::kernels::cuda::test
