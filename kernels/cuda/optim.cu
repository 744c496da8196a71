#include "kernels/cuda/optim.h"

#include <cfloat>

#include "kernels/cuda/device.h"
#include "kernels/math/trust.h"

namespace plsc::kernels::cuda {
namespace {

constexpr int kWide = kPerVec<float>;

/// How many whole vectors n elements at these addresses have: none where one is not aligned.
__device__ inline int64_t vectors(int64_t n, const void* a, const void* b, const void* c, const void* d = nullptr) {
  return is_vec_aligned(a) && is_vec_aligned(b) && is_vec_aligned(c) && is_vec_aligned(d) ? n / kWide : 0;
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

/// sums[i] = the squares of elements [i each, min((i + 1) each, n)); a block each.
__global__ void part_squares_kernel(const float* x, int64_t n, int64_t each, double* sums) {
  const int64_t parts = each > 0 ? (n + each - 1) / each : 0;
  for (int64_t p = blockIdx.x; p < parts; p += gridDim.x) {
    const int64_t begin = p * each, end = begin + each < n ? begin + each : n;
    double sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) sum += square(x[i]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[p] = sum;
  }
}

/// One block.
__global__ void total_kernel(const double* partial, int64_t pieces, double* total) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < pieces; i += blockDim.x) sum += partial[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total = sum;
}

/// One thread's work.
__global__ void head_squares_kernel(const double* sums, int64_t n, math::StepState* state) {
  if (threadIdx.x != 0) return;
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += sums[i];
  state->head_squares = sum;
}

__global__ void clip_kernel(float* x, int64_t n, const math::StepState* state) {
  const auto factor = static_cast<float>(state->clip_factor);
  if (math::updates_blocked(*state) || factor == 1) return;
  const int64_t wide = vectors(n, x, nullptr, nullptr);
  for (int64_t i = global_thread(); i < wide; i += grid_threads()) {
    auto v = load_vec(x + i * kWide);
    PLSC_UNROLL
    for (int k = 0; k < kWide; ++k) v[k] *= factor;
    store_vec(x + i * kWide, v);
  }
  for (int64_t i = wide * kWide + global_thread(); i < n; i += grid_threads()) x[i] *= factor;
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

__global__ void adamw_kernel(const OptimPiece* table, int64_t pieces, math::UpdateGroup group,
                             const math::StepState* state) {
  if (math::updates_blocked(*state)) return;
  const math::AdamRule rule = math::adam_rule(math::step_rule(*state, group), math::update_number(*state));
  for (int64_t p = blockIdx.x; p < pieces; p += gridDim.x) {
    const OptimPiece piece = table[p];
    const int64_t wide = vectors(piece.count, piece.grad, piece.value, piece.momentum, piece.squares);
    for (int64_t i = threadIdx.x; i < wide; i += blockDim.x) {
      const auto g = load_vec(piece.grad + i * kWide);
      auto w = load_vec(piece.value + i * kWide), m = load_vec(piece.momentum + i * kWide),
           v = load_vec(piece.squares + i * kWide);
      PLSC_UNROLL
      for (int k = 0; k < kWide; ++k) math::adamw_update(rule, g[k], w[k], m[k], v[k]);
      store_vec(piece.value + i * kWide, w);
      store_vec(piece.momentum + i * kWide, m);
      store_vec(piece.squares + i * kWide, v);
    }
    for (int64_t i = wide * kWide + threadIdx.x; i < piece.count; i += blockDim.x)
      math::adamw_update(rule, piece.grad[i], piece.value[i], piece.momentum[i], piece.squares[i]);
  }
}

/// partial[2 i], partial[2 i + 1] = `a`, `b`, summed over the block's threads.
__device__ inline void store_sums(double a, double b, int64_t i, double* partial) {
  a = block_sum(a);
  b = block_sum(b);
  if (threadIdx.x == 0) {
    partial[2 * i] = a;
    partial[2 * i + 1] = b;
  }
}

/// The norms of the piece's tensor, from what store_sums stored of all its pieces; the same in every thread.
struct TwoNorms {
  double a = 0, b = 0;
};
__device__ inline TwoNorms norms_of(const OptimPiece& piece, const double* partial) {
  double a = 0, b = 0;
  for (int64_t i = piece.first + threadIdx.x; i < piece.first + piece.pieces; i += blockDim.x) {
    a += partial[2 * i];
    b += partial[2 * i + 1];
  }
  return {sqrt(block_sum(a)), sqrt(block_sum(b))};
}

/// The squares of the values and of the gradients as they are in memory.
__global__ void lars_norms_kernel(const OptimPiece* table, int64_t pieces, double* partial,
                                  const math::StepState* state) {
  if (math::updates_blocked(*state)) return;
  for (int64_t p = blockIdx.x; p < pieces; p += gridDim.x) {
    const OptimPiece piece = table[p];
    const int64_t wide = vectors(piece.count, piece.grad, piece.value, nullptr);
    double values = 0, gradients = 0;
    for (int64_t i = threadIdx.x; i < wide; i += blockDim.x) {
      const auto g = load_vec(piece.grad + i * kWide), w = load_vec(piece.value + i * kWide);
      PLSC_UNROLL
      for (int k = 0; k < kWide; ++k) {
        values += square(w[k]);
        gradients += square(g[k]);
      }
    }
    for (int64_t i = wide * kWide + threadIdx.x; i < piece.count; i += blockDim.x) {
      values += square(piece.value[i]);
      gradients += square(piece.grad[i]);
    }
    store_sums(values, gradients, p, partial);
  }
}

__global__ void lars_kernel(const OptimPiece* table, int64_t pieces, math::UpdateGroup group, const double* partial,
                            const math::StepState* state) {
  if (math::updates_blocked(*state)) return;
  const math::UpdateRule rule = math::step_rule(*state, group);
  for (int64_t p = blockIdx.x; p < pieces; p += gridDim.x) {
    const OptimPiece piece = table[p];
    double ratio = 1;
    if (group.layer_wise) {
      const TwoNorms norms = norms_of(piece, partial);
      ratio = math::lars_ratio(rule, norms.a, norms.b * static_cast<double>(rule.gradient_scale));
    }
    const float rate = math::layer_rate(rule.lr, ratio);
    const int64_t wide = vectors(piece.count, piece.grad, piece.value, piece.momentum);
    for (int64_t i = threadIdx.x; i < wide; i += blockDim.x) {
      const auto g = load_vec(piece.grad + i * kWide);
      auto w = load_vec(piece.value + i * kWide), v = load_vec(piece.momentum + i * kWide);
      PLSC_UNROLL
      for (int k = 0; k < kWide; ++k) math::lars_update(rule, rate, g[k], w[k], v[k]);
      store_vec(piece.value + i * kWide, w);
      store_vec(piece.momentum + i * kWide, v);
    }
    for (int64_t i = wide * kWide + threadIdx.x; i < piece.count; i += blockDim.x)
      math::lars_update(rule, rate, piece.grad[i], piece.value[i], piece.momentum[i]);
  }
}

/// The moments, and the squares of the values and of what they are to move by.
__global__ void lamb_moments_kernel(const OptimPiece* table, int64_t pieces, math::UpdateGroup group, double* partial,
                                    const math::StepState* state) {
  if (math::updates_blocked(*state)) return;
  const math::AdamRule rule = math::adam_rule(math::step_rule(*state, group), math::update_number(*state));
  for (int64_t p = blockIdx.x; p < pieces; p += gridDim.x) {
    const OptimPiece piece = table[p];
    const int64_t wide = vectors(piece.count, piece.grad, piece.value, piece.momentum, piece.squares);
    double values = 0, directions = 0;
    for (int64_t i = threadIdx.x; i < wide; i += blockDim.x) {
      const auto g = load_vec(piece.grad + i * kWide), w = load_vec(piece.value + i * kWide);
      auto m = load_vec(piece.momentum + i * kWide), v = load_vec(piece.squares + i * kWide);
      PLSC_UNROLL
      for (int k = 0; k < kWide; ++k) {
        math::adam_moments(rule, g[k], m[k], v[k]);
        values += square(w[k]);
        directions += square(math::adam_direction(rule, w[k], m[k], v[k]));
      }
      store_vec(piece.momentum + i * kWide, m);
      store_vec(piece.squares + i * kWide, v);
    }
    for (int64_t i = wide * kWide + threadIdx.x; i < piece.count; i += blockDim.x) {
      math::adam_moments(rule, piece.grad[i], piece.momentum[i], piece.squares[i]);
      values += square(piece.value[i]);
      directions += square(math::adam_direction(rule, piece.value[i], piece.momentum[i], piece.squares[i]));
    }
    store_sums(values, directions, p, partial);
  }
}

__global__ void lamb_kernel(const OptimPiece* table, int64_t pieces, math::UpdateGroup group, const double* partial,
                            const math::StepState* state) {
  if (math::updates_blocked(*state)) return;
  const math::AdamRule rule = math::adam_rule(math::step_rule(*state, group), math::update_number(*state));
  for (int64_t p = blockIdx.x; p < pieces; p += gridDim.x) {
    const OptimPiece piece = table[p];
    const TwoNorms norms = norms_of(piece, partial);
    const float rate = math::layer_rate(rule.lr, math::lamb_ratio(norms.a, norms.b));
    const int64_t wide = vectors(piece.count, piece.value, piece.momentum, piece.squares);
    for (int64_t i = threadIdx.x; i < wide; i += blockDim.x) {
      const auto m = load_vec(piece.momentum + i * kWide), v = load_vec(piece.squares + i * kWide);
      auto w = load_vec(piece.value + i * kWide);
      PLSC_UNROLL
      for (int k = 0; k < kWide; ++k) math::lamb_update(rule, rate, w[k], m[k], v[k]);
      store_vec(piece.value + i * kWide, w);
    }
    for (int64_t i = wide * kWide + threadIdx.x; i < piece.count; i += blockDim.x)
      math::lamb_update(rule, rate, piece.value[i], piece.momentum[i], piece.squares[i]);
  }
}

__global__ void average_kernel(const OptimPiece* table, int64_t pieces, math::AverageRule rule,
                               const math::StepState* state) {
  if (math::updates_blocked(*state)) return;
  const float rest = math::average_rest(rule, math::update_number(*state));
  if (rest == 0) return;
  for (int64_t p = blockIdx.x; p < pieces; p += gridDim.x) {
    const OptimPiece piece = table[p];
    const int64_t wide = vectors(piece.count, piece.value, piece.momentum, nullptr);
    for (int64_t i = threadIdx.x; i < wide; i += blockDim.x) {
      const auto w = load_vec(piece.value + i * kWide);
      auto a = load_vec(piece.momentum + i * kWide);
      PLSC_UNROLL
      for (int k = 0; k < kWide; ++k) math::average_in(rest, w[k], a[k]);
      store_vec(piece.momentum + i * kWide, a);
    }
    for (int64_t i = wide * kWide + threadIdx.x; i < piece.count; i += blockDim.x)
      math::average_in(rest, piece.value[i], piece.momentum[i]);
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

void part_squares(const float* gradient, int64_t parts, int64_t each, double* sums, cudaStream_t stream) {
  launch(part_squares_kernel, {.blocks = blocks_of(parts)}, stream, gradient, parts * each, each, sums);
}

void all_squares(const float* gradient, int64_t n, double* partial, double* sum, cudaStream_t stream) {
  const int64_t pieces = (n + kOptimPiece - 1) / kOptimPiece;
  launch(part_squares_kernel, {.blocks = blocks_of(pieces)}, stream, gradient, n, kOptimPiece, partial);
  launch(total_kernel, {.blocks = 1}, stream, partial, pieces, sum);
}

void note_head_squares(const double* sums, int64_t n, math::StepState* state, cudaStream_t stream) {
  launch(head_squares_kernel, {.blocks = 1, .threads = kWarp}, stream, sums, n, state);
}

void clip(float* gradient, int64_t n, const math::StepState* state, cudaStream_t stream) {
  launch(clip_kernel, {.blocks = blocks_for(n, kThreads, kWide)}, stream, gradient, n, state);
}

void check_finite(const float* gradient, int64_t n, math::StepState* state, cudaStream_t stream) {
  // At least one vector a thread.
  launch(finite_kernel, {.blocks = blocks_for(n, kThreads, kWide)}, stream, gradient, n, state);
}

void sgd(const OptimPiece* table, int64_t pieces, const math::UpdateGroup& group, const math::StepState* state,
         cudaStream_t stream) {
  launch(sgd_kernel, {.blocks = blocks_of(pieces)}, stream, table, pieces, group, state);
}

void adamw(const OptimPiece* table, int64_t pieces, const math::UpdateGroup& group, const math::StepState* state,
           cudaStream_t stream) {
  launch(adamw_kernel, {.blocks = blocks_of(pieces)}, stream, table, pieces, group, state);
}

void lars(const OptimPiece* table, int64_t pieces, const math::UpdateGroup& group, double* partial,
          const math::StepState* state, cudaStream_t stream) {
  const Grid shape{.blocks = blocks_of(pieces)};
  if (group.layer_wise) launch(lars_norms_kernel, shape, stream, table, pieces, partial, state);
  launch(lars_kernel, shape, stream, table, pieces, group, partial, state);
}

void lamb(const OptimPiece* table, int64_t pieces, const math::UpdateGroup& group, double* partial,
          const math::StepState* state, cudaStream_t stream) {
  const Grid shape{.blocks = blocks_of(pieces)};
  launch(lamb_moments_kernel, shape, stream, table, pieces, group, partial, state);
  launch(lamb_kernel, shape, stream, table, pieces, group, partial, state);
}

void average(const OptimPiece* table, int64_t pieces, const math::AverageRule& rule, const math::StepState* state,
             cudaStream_t stream) {
  launch(average_kernel, {.blocks = blocks_of(pieces)}, stream, table, pieces, rule, state);
}

void finish_step(math::StepState* state, cudaStream_t stream) {
  launch(finish_kernel, {.blocks = 1, .threads = kWarp}, stream, state, math::LossScaleRule{});
}

}  // namespace plsc::kernels::cuda
