// CUDA's kernel language for the host's compiler: with this the .cu files of kernels/cuda are plain C++, and their
// kernels run on the CPU, thread by thread, checked as a device would not. Included by kernels/cuda/launch.h where
// PLSC_CUDA_EMULATION is set. The list of intrinsics is short on purpose: what is missing here is not used there.
//
// A kernel's threads are fibres: one runs until it ends or waits at a barrier or a warp exchange, then another; blocks
// one after another. Which goes next is drawn under PLSC_STANDIN_SEED, so that text that relies on lock-step is wrong
// here too. A misuse ends through plsc::standin::misuse with the launch, the block and the thread: a barrier or
// exchange that some threads miss, a kernel that never ends, a misaligned vector, memory that is not the device's, a
// write beyond dynamic shared memory, a stack that overflows. Shared memory holds NaN until it is written.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __forceinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
// All blocks use the same variables, one block after another; the emulator finds them by their symbols.
#define __shared__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

#define PLSC_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(::plsc::kernels::cuda::emulator::dynamic_shared())
#define PLSC_UNROLL

namespace plsc::kernels::cuda {

// Where the running thread is.
extern thread_local constinit uint3 threadIdx;
extern thread_local constinit uint3 blockIdx;
extern thread_local constinit uint3 blockDim;
extern thread_local constinit uint3 gridDim;

namespace emulator {

struct Launch {
  std::string name;
  int64_t blocks = 1;
  int64_t blocks_y = 1;
  int threads = 32;
  size_t shared = 0;
};

/// Queues `work` on the stream, to be told of as `launch`.
void queue(const Launch& launch, cudaStream_t stream, std::function<void()> work);
/// Calls `thread` once for each thread of the launch, now. Kernels run one at a time in the process.
void run(const Launch& launch, const std::function<void()>& thread);

/// What all lanes of a warp, or all threads of a block, must do together.
enum class Meeting { block_barrier, warp_barrier, shuffle, shuffle_xor, shuffle_down, ballot };
struct Place {
  const char* file;
  int line;
};

void meet_block(Place place);
/// Waits until all 32 lanes of the warp have come with the same meeting, place and `bytes`. Returns the 32 lanes'
/// values, which stay until the calling lane meets again. Misuse where `mask` leaves lanes out.
const uint64_t* meet_warp(Meeting meeting, Place place, unsigned mask, uint64_t value, size_t bytes);

void* dynamic_shared();
[[noreturn]] void misaligned(const void* p, size_t bytes);
inline void check_alignment(const void* p, size_t bytes) {
  if ((reinterpret_cast<uintptr_t>(p) & (bytes - 1)) != 0) misaligned(p, bytes);
}
/// A pointer among a kernel's arguments, counted from 1: null, or into device memory or at its end.
void check_pointer(const Launch& launch, int position, const void* p);

template <class T>
void check_argument(const Launch& launch, int position, const T& value) {
  if constexpr (std::is_pointer_v<T>) check_pointer(launch, position, value);
}

template <class... P>
void enqueue(void (*kernel)(P...), const Launch& launch, cudaStream_t stream, std::type_identity_t<P>... args) {
  queue(launch, stream, [kernel, launch, args...] {
    [[maybe_unused]] int position = 0;
    (check_argument(launch, ++position, args), ...);
    run(launch, [&] { kernel(args...); });
  });
}

template <class T>
uint64_t to_bits(T value) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) <= 8, "what CUDA can exchange");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// The value of lane `source` of the caller's group of `width` lanes; the caller's own where that is outside.
template <class T>
T shuffle(Meeting meeting, Place place, unsigned mask, T value, int source, int width) {
  const uint64_t* lanes = meet_warp(meeting, place, mask, to_bits(value), sizeof value);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int group = lane / width * width;
  return source < group || source >= group + width ? value : from_bits<T>(lanes[source]);
}

template <class T>
T atomic(T* address, T value, T (*combine)(T, T)) {
  check_alignment(address, sizeof(T));
  T before;
  __atomic_load(address, &before, __ATOMIC_RELAXED);
  T after = combine(before, value);
  __atomic_store(address, &after, __ATOMIC_RELAXED);
  return before;
}

}  // namespace emulator

inline void expect_aligned(const void* p, size_t bytes) { emulator::check_alignment(p, bytes); }

// Barriers and exchanges. File and line are the caller's: threads that meet must stand at the same one.
#define PLSC_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(PLSC_PLACE) { emulator::meet_block({file, line}); }
inline void __syncwarp(unsigned mask = 0xffffffffu, PLSC_PLACE) {
  emulator::meet_warp(emulator::Meeting::warp_barrier, {file, line}, mask, 0, 0);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, PLSC_PLACE) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int in_group = static_cast<int>(static_cast<unsigned>(source) % static_cast<unsigned>(width));
  return emulator::shuffle(emulator::Meeting::shuffle, {file, line}, mask, value, lane / width * width + in_group,
                           width);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, PLSC_PLACE) {
  const int source = static_cast<int>(threadIdx.x % 32) ^ lanes;
  return emulator::shuffle(emulator::Meeting::shuffle_xor, {file, line}, mask, value, source, width);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32, PLSC_PLACE) {
  const int source = static_cast<int>(threadIdx.x % 32 + distance);
  return emulator::shuffle(emulator::Meeting::shuffle_down, {file, line}, mask, value, source, width);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, PLSC_PLACE) {
  const uint64_t* lanes = emulator::meet_warp(emulator::Meeting::ballot, {file, line}, mask, predicate != 0, 1);
  unsigned bits = 0;
  for (unsigned lane = 0; lane < 32; ++lane) bits |= static_cast<unsigned>(lanes[lane]) << lane;
  return bits;
}
inline int __any_sync(unsigned mask, int predicate, PLSC_PLACE) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, PLSC_PLACE) {
  return __ballot_sync(mask, predicate, file, line) == 0xffffffffu;
}
#undef PLSC_PLACE

// Atomics: fibres do not interrupt each other, so a read and a write are one. Each returns the old value.
inline float atomicAdd(float* address, float value) {
  return emulator::atomic<float>(address, value, [](float a, float b) { return a + b; });
}
inline double atomicAdd(double* address, double value) {
  return emulator::atomic<double>(address, value, [](double a, double b) { return a + b; });
}
inline int atomicAdd(int* address, int value) {
  return emulator::atomic<int>(address, value, [](int a, int b) {
    return static_cast<int>(static_cast<unsigned>(a) + static_cast<unsigned>(b));
  });
}
inline unsigned atomicAdd(unsigned* address, unsigned value) {
  return emulator::atomic<unsigned>(address, value, [](unsigned a, unsigned b) { return a + b; });
}
inline unsigned long long atomicAdd(unsigned long long* address, unsigned long long value) {
  using Wide = unsigned long long;
  return emulator::atomic<Wide>(address, value, [](Wide a, Wide b) { return a + b; });
}
inline int atomicMax(int* address, int value) {
  return emulator::atomic<int>(address, value, [](int a, int b) { return a > b ? a : b; });
}
inline unsigned atomicMax(unsigned* address, unsigned value) {
  return emulator::atomic<unsigned>(address, value, [](unsigned a, unsigned b) { return a > b ? a : b; });
}
inline unsigned atomicOr(unsigned* address, unsigned value) {
  return emulator::atomic<unsigned>(address, value, [](unsigned a, unsigned b) { return a | b; });
}

// Bits and arithmetic. sqrt, fabs, fmax and the like are the C library's.
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
template <class T>
T __ldg(const T* p) {
  emulator::check_alignment(p, sizeof(T));
  return *p;
}

}  // namespace plsc::kernels::cuda
