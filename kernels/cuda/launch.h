// How a kernel is launched, and the few names that its text may use beyond CUDA's own. The .cu files of this folder are
// compiled twice: by nvcc for the device, and by the host's compiler with PLSC_CUDA_EMULATION for the tests, which run
// every kernel on the CPU. tests/support/cuda/emulator.h lists the intrinsics that exist there; what it lacks does not
// compile. Blocks are one-dimensional and a multiple of 32 threads; blocks talk to each other by atomics alone.
//
//   __global__ void add_kernel(const float* x, float* y, int64_t n) {
//     for (int64_t i = global_thread(); i < n; i += grid_threads()) y[i] += x[i];
//   }
//   launch(add_kernel, {.blocks = blocks_for(n, kThreads), .threads = kThreads}, stream, x, y, n);
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#ifdef PLSC_CUDA_EMULATION
#include "tests/support/cuda/emulator.h"
#else
#include <cuda_runtime.h>
#endif

namespace plsc::kernels::cuda {

/// A launch that cannot be: a grid beyond the device's limits, or an error that the runtime tells at once.
class LaunchError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What every device grants without opting in.
inline constexpr int64_t kMaxBlocks = 0x7FFFFFFF;
inline constexpr int64_t kMaxBlocksY = 65535;
inline constexpr int kMaxThreads = 1024;
inline constexpr size_t kMaxShared = 48 * 1024;
inline constexpr int kWarp = 32;

/// A block's usual size.
inline constexpr int kThreads = 256;
/// Enough blocks to fill the largest device a few times over.
inline constexpr int64_t kManyBlocks = 8192;

/// The shape of a launch. Where it happens is filled in by the braces at the call.
struct Grid {
  int64_t blocks = 1;    ///< 0 launches nothing
  int64_t blocks_y = 1;  ///< 0 launches nothing
  int threads = kThreads;
  size_t shared = 0;  ///< bytes of dynamic shared memory, see PLSC_DYNAMIC_SHARED
  const char* file = __builtin_FILE();
  int line = __builtin_LINE();
  const char* function = __builtin_FUNCTION();
};

/// Blocks for n items, `per_thread` of them a thread and turn; 0 where n is 0. Never more than kManyBlocks, so the
/// kernel loops: for (i = global_thread(); i < n; i += grid_threads()).
constexpr int64_t blocks_for(int64_t n, int threads, int64_t per_thread = 1) {
  const int64_t items = threads * per_thread;
  return std::min(n / items + (n % items != 0), kManyBlocks);
}

/// What messages call a launch: "function (file.cu:line)".
inline std::string launch_name(const Grid& grid) {
  const std::string path = grid.file;
  return grid.function + (" (" + path.substr(path.rfind('/') + 1)) + ":" + std::to_string(grid.line) + ")";
}

/// Throws LaunchError where `grid` is beyond the limits.
inline void check_grid(const Grid& grid) {
  const auto check = [&grid](bool holds, const char* rule, int64_t found) {
    if (!holds) throw LaunchError(launch_name(grid) + ": " + rule + ", not " + std::to_string(found));
  };
  check(grid.blocks >= 0 && grid.blocks <= kMaxBlocks, "a grid has 0 to 2147483647 blocks", grid.blocks);
  check(grid.blocks_y >= 0 && grid.blocks_y <= kMaxBlocksY, "a grid has 0 to 65535 rows of blocks", grid.blocks_y);
  check(grid.threads > 0 && grid.threads <= kMaxThreads && grid.threads % kWarp == 0,
        "a block has 32 to 1024 threads, whole warps", grid.threads);
  check(grid.shared <= kMaxShared, "a block has at most 49152 bytes of shared memory",
        static_cast<int64_t>(grid.shared));
}

/// Starts kernel(args...) on `stream` and does not wait. The arguments are copied. Throws LaunchError; what goes wrong
/// on the device itself shows at a later call that waits.
template <class... P, class... A>
void launch(void (*kernel)(P...), const Grid& grid, cudaStream_t stream, A&&... args) {
  static_assert((std::is_trivially_copyable_v<P> && ...), "a kernel's arguments reach the device as bytes");
  check_grid(grid);
  if (grid.blocks == 0 || grid.blocks_y == 0) return;
#ifdef PLSC_CUDA_EMULATION
  const emulator::Launch shape{launch_name(grid), grid.blocks, grid.blocks_y, grid.threads, grid.shared};
  emulator::enqueue(kernel, shape, stream, static_cast<P>(std::forward<A>(args))...);
#else
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(grid.blocks), static_cast<unsigned>(grid.blocks_y));
  config.blockDim = dim3(static_cast<unsigned>(grid.threads));
  config.dynamicSmemBytes = grid.shared;
  config.stream = stream;
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, static_cast<P>(std::forward<A>(args))...);
  if (error != cudaSuccess) throw LaunchError(launch_name(grid) + ": " + cudaGetErrorString(error));
#endif
}

#ifndef PLSC_CUDA_EMULATION
/// T* name: the block's dynamic shared memory (Grid::shared bytes), aligned to 16 bytes.
#define PLSC_DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(16) unsigned char plsc_dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(plsc_dynamic_shared)
/// In front of a loop with a constant number of turns: unroll it.
#define PLSC_UNROLL _Pragma("unroll")

/// That p is a multiple of `bytes`: the emulator looks; a device stops with an error of its own.
__device__ inline void expect_aligned(const void*, size_t) {}
#endif

/// The thread's index in the grid's x direction, and how many there are.
__device__ inline int64_t global_thread() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t grid_threads() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

}  // namespace plsc::kernels::cuda
