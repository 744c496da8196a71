#include "emulator_kernels.h"

#include "kernels/cuda/device.h"

namespace plsc::kernels::cuda::test {
namespace {

__global__ void exchange_kernel(Exchanged out) {
  const int i = static_cast<int>(threadIdx.x);
  const int lane = lane_id();
  out.xor_float[i] = __shfl_xor_sync(kAllLanes, static_cast<float>(i) + 0.5f, 5);
  out.down_double[i] = __shfl_down_sync(kAllLanes, i + 0.25, 3);
  out.from_int[i] = __shfl_sync(kAllLanes, -i, 7);
  out.from_unsigned[i] = __shfl_sync(kAllLanes, 0x80000000u + threadIdx.x, lane + 9);
  const int64_t wide = (int64_t{1} << 40) + i;
  out.xor_wide[i] = __shfl_xor_sync(kAllLanes, wide, 16);
  out.down_in_eight[i] = __shfl_down_sync(kAllLanes, static_cast<float>(i), 2, 8);
  out.ballot[i] = __ballot_sync(kAllLanes, lane % 3 == 0);
  int bits = __any_sync(kAllLanes, 0) ? 1 : 0;
  bits += __any_sync(kAllLanes, lane == 11) ? 2 : 0;
  bits += __all_sync(kAllLanes, lane != 11) ? 4 : 0;
  bits += __all_sync(kAllLanes, 1) ? 8 : 0;
  out.any_all[i] = bits;
}

__global__ void bits_kernel(const unsigned* x, int* out, int64_t n) {
  for (int64_t i = global_thread(); i < n; i += grid_threads()) {
    const int bits = static_cast<int>(__ldg(x + i));
    out[3 * i] = __popc(static_cast<unsigned>(bits));
    out[3 * i + 1] = __ffs(bits);
    out[3 * i + 2] = __clz(bits);
  }
}

__global__ void arithmetic_kernel(const float* x, float* y, int64_t n) {
  for (int64_t i = global_thread(); i < n; i += grid_threads()) {
    y[i] = rsqrtf(x[i]) + sqrtf(x[i]) + fmaxf(x[i], 1.0f) + fminf(x[i], 1.0f) + fabsf(-x[i]);
  }
}

__global__ void reduce_rows_kernel(Rows rows) {
  for (int64_t row = blockIdx.x; row < rows.rows; row += gridDim.x) {
    const float* x = rows.x + row * rows.n;
    double sum = 0;
    float largest = x[0];
    for (int64_t i = threadIdx.x; i < rows.n; i += blockDim.x) {
      sum += x[i];
      largest = fmaxf(largest, x[i]);
    }
    const float float_sum = block_sum(static_cast<float>(sum));
    sum = block_sum(sum);
    largest = block_max(largest);
    if (threadIdx.x == 0) {
      rows.sums[row] = sum;
      rows.float_sums[row] = float_sum;
      rows.largest[row] = largest;
    }
    __syncthreads();
    if (rows.sums[row] != sum || rows.float_sums[row] != float_sum || rows.largest[row] != largest) {
      atomicAdd(rows.differing, 1);
    }
  }
}

template <class T>
__global__ void scale_kernel(const T* __restrict__ x, T* __restrict__ y, int64_t n, float factor) {
  const int64_t vectors = n / kPerVec<T>;
  for (int64_t i = global_thread(); i < vectors; i += grid_threads()) {
    Vec<T, kPerVec<T>> v = load_vec(x + i * kPerVec<T>);
    PLSC_UNROLL
    for (int k = 0; k < kPerVec<T>; ++k) v[k] = from_float<T>(to_float(v[k]) * factor);
    store_vec(y + i * kPerVec<T>, v);
  }
  for (int64_t i = vectors * kPerVec<T> + global_thread(); i < n; i += grid_threads()) {
    y[i] = from_float<T>(to_float(x[i]) * factor);
  }
}

template <class T>
void scale_any(const T* x, T* y, int64_t n, float factor, cudaStream_t stream) {
  launch(scale_kernel<T>, {.blocks = blocks_for(n, 64, kPerVec<T>), .threads = 64}, stream, x, y, n, factor);
}

__global__ void reverse_kernel(const double* x, double* y) {
  PLSC_DYNAMIC_SHARED(double, values);
  const int64_t i = global_thread();
  values[threadIdx.x] = x[i];
  __syncthreads();
  y[i] = values[blockDim.x - 1 - threadIdx.x];
}

__global__ void tally_kernel(Tallies out) {
  const int i = static_cast<int>(global_thread());
  atomicAdd(out.add_float, 0.5f);
  atomicAdd(out.add_double, 0.25);
  atomicAdd(out.add_int, -1);
  atomicAdd(out.add_unsigned, 3u);
  atomicAdd(out.add_wide, 1ull << 33);
  atomicMax(out.max_int, i - 1000);
  atomicMax(out.max_unsigned, 0x80000000u + static_cast<unsigned>(i));
  atomicOr(out.or_unsigned, 1u << (i % 32));
}

__global__ void visit_kernel(int* visits) {
  const int64_t block = static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
  visits[block * blockDim.x + threadIdx.x] += 1;
}

__global__ void note_order_kernel(int* order, int* next) {
  order[atomicAdd(next, 1)] = static_cast<int>(global_thread());
}

__global__ void read_unwritten_kernel(float* out) {
  __shared__ float fixed[64];
  PLSC_DYNAMIC_SHARED(float, dynamic);
  const float before = fixed[threadIdx.x] + dynamic[threadIdx.x];
  fixed[threadIdx.x] = 1.0f;
  dynamic[threadIdx.x] = 1.0f;
  out[global_thread()] = before;
}

__global__ void wait_often_kernel(int64_t times) {
  for (int64_t i = 0; i < times; ++i) __syncthreads();
}

__global__ void sum_often_kernel(float* out, int64_t times) {
  float value = 1.0f;
  for (int64_t i = 0; i < times; ++i) value = warp_sum(value) / 32.0f;
  out[threadIdx.x] = value;
}

}  // namespace

void exchange(const Exchanged& out, cudaStream_t stream) { launch(exchange_kernel, {.threads = 64}, stream, out); }

void bits(const unsigned* x, int* out, int64_t n, cudaStream_t stream) {
  launch(bits_kernel, {.blocks = blocks_for(n, 32), .threads = 32}, stream, x, out, n);
}

void arithmetic(const float* x, float* y, int64_t n, cudaStream_t stream) {
  launch(arithmetic_kernel, {.blocks = blocks_for(n, kThreads)}, stream, x, y, n);
}

void reduce_rows(const Rows& rows, int threads, cudaStream_t stream) {
  launch(reduce_rows_kernel, {.blocks = std::min<int64_t>(rows.rows, 3), .threads = threads}, stream, rows);
}

void scale(const float* x, float* y, int64_t n, float factor, cudaStream_t stream) {
  scale_any(x, y, n, factor, stream);
}
void scale(const __half* x, __half* y, int64_t n, float factor, cudaStream_t stream) {
  scale_any(x, y, n, factor, stream);
}
void scale(const __nv_bfloat16* x, __nv_bfloat16* y, int64_t n, float factor, cudaStream_t stream) {
  scale_any(x, y, n, factor, stream);
}

void reverse(const double* x, double* y, int64_t blocks, int threads, cudaStream_t stream) {
  const size_t shared = static_cast<size_t>(threads) * sizeof(double);
  launch(reverse_kernel, {.blocks = blocks, .threads = threads, .shared = shared}, stream, x, y);
}

void tally(const Tallies& out, int64_t blocks, int threads, cudaStream_t stream) {
  launch(tally_kernel, {.blocks = blocks, .threads = threads}, stream, out);
}

void visit(int* visits, int64_t blocks, int64_t blocks_y, int threads, cudaStream_t stream) {
  launch(visit_kernel, {.blocks = blocks, .blocks_y = blocks_y, .threads = threads}, stream, visits);
}

void note_order(int* order, int* next, int64_t blocks, int threads, cudaStream_t stream) {
  launch(note_order_kernel, {.blocks = blocks, .threads = threads}, stream, order, next);
}

void read_unwritten(float* out, int64_t blocks, cudaStream_t stream) {
  launch(read_unwritten_kernel, {.blocks = blocks, .threads = 64, .shared = 64 * sizeof(float)}, stream, out);
}

void wait_often(int64_t times, int threads, cudaStream_t stream) {
  launch(wait_often_kernel, {.threads = threads}, stream, times);
}

void sum_often(float* out, int64_t times, int threads, cudaStream_t stream) {
  launch(sum_often_kernel, {.threads = threads}, stream, out, times);
}

}  // namespace plsc::kernels::cuda::test
