#include "kernels/cuda/optim.h"

#include <cfloat>

#include "kernels/cuda/device.h"

namespace plsc::kernels::cuda {
namespace {

constexpr int kWide = kPerVec<float>;

/// How many whole vectors n elements at these addresses have: none where one is not aligned.
__device__ inline int64_t vectors(int64_t n, const void* a, const void* b, const void* c) {
  return is_vec_aligned(a) && is_vec_aligned(b) && is_vec_aligned(c) ? n / kWide : 0;
}

__device__ inline double square(float x) { return static_cast<double>(x) * static_cast<double>(x); }

/// partial[i] = the sum of squares of piece i.
__global__ void squares_kernel(const OptimPiece* table, int64_t pieces, double* partial) {
  for (int64_t p = blockIdx.x; p < pieces; p += gridDim.x) {
    const OptimPiece piece = table[p];
    const int64_t wide = vectors(piece.count, piece.grad, nullptr, nullptr);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < wide; i += blockDim.x) {
      const auto g = load_vec(piece.grad + i * kWide);
      PLSC_UNROLL
      for (int k = 0; k < kWide; ++k) sum += square(g[k]);
    }
    for (int64_t i = wide * kWide + threadIdx.x; i < piece.count; i += blockDim.x) sum += square(piece.grad[i]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[p] = sum;
  }
}

/// One block.
__global__ void judge_kernel(const double* partial, int64_t pieces, math::StepState* state) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < pieces; i += blockDim.x) sum += partial[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) {
    state->grad_squares = sum;
    math::judge_gradient(*state);
  }
}

__device__ inline bool not_finite(float x) { return !(fabsf(x) <= FLT_MAX); }

__global__ void finite_kernel(const float* x, int64_t n, math::StepState* state) {
  const int64_t wide = vectors(n, x, nullptr, nullptr);
  bool found = false;
  for (int64_t i = global_thread(); i < wide; i += grid_threads()) {
    const auto v = load_vec(x + i * kWide);
    PLSC_UNROLL
    for (int k = 0; k < kWide; ++k) found |= not_finite(v[k]);
  }
  for (int64_t i = wide * kWide + global_thread(); i < n; i += grid_threads()) found |= not_finite(x[i]);
  // Several threads may do so at once: all write the same.
  if (found) math::mark_not_finite(*state, math::StepFailure::gradient);
}

__global__ void sgd_kernel(const OptimPiece* table, int64_t pieces, math::UpdateGroup group,
                           const math::StepState* state) {
  if (math::updates_blocked(*state)) return;
  const math::SgdRule rule = math::sgd_rule(math::step_rule(*state, group));
  for (int64_t p = blockIdx.x; p < pieces; p += gridDim.x) {
    const OptimPiece piece = table[p];
    const int64_t wide = vectors(piece.count, piece.grad, piece.value, piece.momentum);
    for (int64_t i = threadIdx.x; i < wide; i += blockDim.x) {
      const auto g = load_vec(piece.grad + i * kWide);
      auto w = load_vec(piece.value + i * kWide), v = load_vec(piece.momentum + i * kWide);
      PLSC_UNROLL
      for (int k = 0; k < kWide; ++k) math::sgd_update(rule, g[k], w[k], v[k]);
      store_vec(piece.value + i * kWide, w);
      store_vec(piece.momentum + i * kWide, v);
    }
    for (int64_t i = wide * kWide + threadIdx.x; i < piece.count; i += blockDim.x) {
      math::sgd_update(rule, piece.grad[i], piece.value[i], piece.momentum[i]);
    }
  }
}

/// One thread's work.
__global__ void finish_kernel(math::StepState* state, math::LossScaleRule rule) {
  if (threadIdx.x == 0) math::finish_step(*state, rule);
}

/// A block a piece.
int64_t blocks_of(int64_t pieces) { return std::min(pieces, kManyBlocks); }

}  // namespace

void judge_gradients(const OptimPiece* table, int64_t pieces, double* partial, math::StepState* state,
                     cudaStream_t stream) {
  launch(squares_kernel, {.blocks = blocks_of(pieces)}, stream, table, pieces, partial);
  launch(judge_kernel, {.blocks = 1}, stream, partial, pieces, state);
}

void check_finite(const float* gradient, int64_t n, math::StepState* state, cudaStream_t stream) {
  // At least one vector a thread.
  launch(finite_kernel, {.blocks = blocks_for(n, kThreads, kWide)}, stream, gradient, n, state);
}

void sgd(const OptimPiece* table, int64_t pieces, const math::UpdateGroup& group, const math::StepState* state,
         cudaStream_t stream) {
  launch(sgd_kernel, {.blocks = blocks_of(pieces)}, stream, table, pieces, group, state);
}

void finish_step(math::StepState* state, cudaStream_t stream) {
  launch(finish_kernel, {.blocks = 1, .threads = kWarp}, stream, state, math::LossScaleRule{});
}

}  // namespace plsc::kernels::cuda
