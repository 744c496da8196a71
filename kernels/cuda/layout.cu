#include "kernels/cuda/layout.h"

#include <type_traits>

#include "kernels/cuda/device.h"

namespace plsc::kernels::cuda {
namespace {

constexpr int kTile = 32;
/// Rows of dy that one thread adds up.
constexpr int64_t kRowsPerSum = 32;

constexpr int64_t parts(int64_t n, int64_t size) { return n / size + (n % size != 0); }

template <class To>
__device__ inline void put(To* to, float value, bool accumulate) {
  if constexpr (std::is_same_v<To, float>) {
    *to = accumulate ? *to + value : value;
  } else {
    *to = from_float<To>(value);
  }
}

/// A block takes tile after tile: rows of `from` into shared memory, its columns out, so that both ends are contiguous.
template <class From, class To>
__global__ void transpose_kernel(MatrixBatch s, const From* from, To* to, bool accumulate) {
  __shared__ float tile[kTile][kTile + 1];  // one more: a column's elements then lie in different banks
  const int64_t down = parts(s.rows, kTile), across = parts(s.columns, kTile);
  const int lane = lane_id(), warps = static_cast<int>(blockDim.x) / kWarp;
  for (int64_t t = blockIdx.x; t < s.batch * down * across; t += gridDim.x) {
    const int64_t matrix = t / (down * across) * s.rows * s.columns;
    const int64_t row = t / across % down * kTile, column = t % across * kTile;
    for (int i = warp_id(); i < kTile; i += warps) {
      if (row + i < s.rows && column + lane < s.columns) {
        tile[i][lane] = to_float(from[matrix + (row + i) * s.columns + column + lane]);
      }
    }
    __syncthreads();
    for (int j = warp_id(); j < kTile; j += warps) {
      if (column + j < s.columns && row + lane < s.rows) {
        put(to + matrix + (column + j) * s.rows + row + lane, tile[lane][j], accumulate);
      }
    }
    __syncthreads();  // before the next tile overwrites this one
  }
}

/// The transpose of a row or a column: the same elements in the same order.
template <class From, class To>
__global__ void convert_kernel(const From* from, To* to, int64_t n, bool accumulate) {
  constexpr int kEach = 4;
  const bool aligned = is_vec_aligned(from) && is_vec_aligned(to);
  const int64_t vectors = aligned ? n / kEach : 0;
  for (int64_t i = global_thread(); i < vectors; i += grid_threads()) {
    const auto in = load_vec<From, kEach>(from + i * kEach);
    Vec<To, kEach> out{};
    if (accumulate) out = load_vec<To, kEach>(to + i * kEach);
    PLSC_UNROLL
    for (int j = 0; j < kEach; ++j) put(&out[j], to_float(in[j]), accumulate);
    store_vec(to + i * kEach, out);
  }
  for (int64_t i = vectors * kEach + global_thread(); i < n; i += grid_threads()) {
    put(to + i, to_float(from[i]), accumulate);
  }
}

__global__ void add_bias_kernel(const float* bias, int64_t columns, float* y, int64_t n) {
  for (int64_t i = global_thread(); i < n; i += grid_threads()) y[i] += bias[i % columns];
}

/// sums (groups, columns): each of kRowsPerSum rows.
__global__ void sum_rows_kernel(const float* dy, int64_t rows, int64_t columns, double* sums) {
  for (int64_t i = global_thread(); i < parts(rows, kRowsPerSum) * columns; i += grid_threads()) {
    const int64_t first = i / columns * kRowsPerSum, column = i % columns;
    double sum = 0;
    for (int64_t row = first; row < rows && row < first + kRowsPerSum; ++row) {
      sum += static_cast<double>(dy[row * columns + column]);
    }
    sums[i] = sum;
  }
}

__global__ void sum_groups_kernel(const double* sums, int64_t groups, int64_t columns, float* dbias, bool accumulate) {
  for (int64_t column = global_thread(); column < columns; column += grid_threads()) {
    double sum = accumulate ? static_cast<double>(dbias[column]) : 0;
    for (int64_t group = 0; group < groups; ++group) sum += sums[group * columns + column];
    dbias[column] = static_cast<float>(sum);
  }
}

}  // namespace

template <class From, class To>
void transpose(const MatrixBatch& shape, const From* from, To* to, bool accumulate, cudaStream_t stream) {
  if (shape.rows == 1 || shape.columns == 1) {
    const int64_t n = shape.batch * shape.rows * shape.columns;
    launch(convert_kernel<From, To>, {.blocks = blocks_for(n, kThreads, 4)}, stream, from, to, n, accumulate);
    return;
  }
  const int64_t tiles = shape.batch * parts(shape.rows, kTile) * parts(shape.columns, kTile);
  launch(transpose_kernel<From, To>, {.blocks = std::min(tiles, kManyBlocks)}, stream, shape, from, to, accumulate);
}

template void transpose(const MatrixBatch&, const float*, float*, bool, cudaStream_t);
template void transpose(const MatrixBatch&, const float*, __half*, bool, cudaStream_t);
template void transpose(const MatrixBatch&, const float*, __nv_bfloat16*, bool, cudaStream_t);
template void transpose(const MatrixBatch&, const __half*, float*, bool, cudaStream_t);
template void transpose(const MatrixBatch&, const __nv_bfloat16*, float*, bool, cudaStream_t);

void add_bias(const float* bias, int64_t rows, int64_t columns, float* y, cudaStream_t stream) {
  const int64_t n = rows * columns;
  launch(add_bias_kernel, {.blocks = blocks_for(n, kThreads)}, stream, bias, columns, y, n);
}

int64_t bias_gradient_scratch(int64_t rows, int64_t columns) { return parts(rows, kRowsPerSum) * columns; }

void bias_gradient(const BiasGradient& a, cudaStream_t stream) {
  const int64_t groups = parts(a.rows, kRowsPerSum);
  launch(sum_rows_kernel, {.blocks = blocks_for(groups * a.columns, kThreads)}, stream, a.dy, a.rows, a.columns,
         a.scratch);
  launch(sum_groups_kernel, {.blocks = blocks_for(a.columns, kThreads)}, stream, a.scratch, groups, a.columns, a.dbias,
         a.accumulate);
}

}  // namespace plsc::kernels::cuda
