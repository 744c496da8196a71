// A warp a row; see head_rows.h.
#include "kernels/cuda/head_rows.h"

#include "kernels/cuda/device.h"
#include "kernels/cuda/head_access.h"
#include "kernels/cuda/ordered.h"
#include "kernels/math/normal.h"
#include "kernels/math/normalize.h"
#include "kernels/math/row_update.h"
#include "kernels/math/stochastic_rounding.h"

namespace plsc::kernels::cuda {
namespace {

/// Where row i lies, and what it missed.
struct StoredRow {
  int64_t row, offset;  // its number, and its first element
  bool lags;
  math::CatchUpMatrix<float> missed;
  float second;  // what is left of its second moment
};
__device__ int64_t row_of(const HeadRows& rows, int64_t i) {
  return rows.index != nullptr ? rows.index[i] : rows.begin + i * rows.stride;
}
/// The entry wv of what row `at` missed, and what is left of its second moment. Each lane takes some of the steps, one
/// behind the other; what the lanes before it leave of the moments is a product over these. All lanes call it.
__device__ void coast_row(const HeadRows& rows, StoredRow& at) {
  const int64_t missed = rows.next - rows.last_update[at.row], each = (missed + kWarp - 1) / kWarp;
  const math::CoastingStep* steps = rows.coasting + (rows.last_update[at.row] - rows.first);
  const int64_t begin = lane_id() * each < missed ? lane_id() * each : missed;
  const int64_t end = begin + each < missed ? begin + each : missed;
  double mean = 1, root = 1;
  for (int64_t u = begin; u < end; ++u) {
    mean *= steps[u].beta1;
    root *= steps[u].root_beta2;
  }
  double mean_before = 1, root_before = 1;
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const double other_mean = __shfl_xor_sync(kAllLanes, mean, distance);
    const double other_root = __shfl_xor_sync(kAllLanes, root, distance);
    if ((lane_id() & distance) != 0) {
      mean_before *= other_mean;
      root_before *= other_root;
    }
    mean *= other_mean;
    root *= other_root;
  }
  math::CoastingRow row;
  row.mean = mean_before;
  row.root = sqrt(static_cast<double>(rows.second_moment[at.row])) * root_before;
  for (int64_t u = begin; u < end; ++u) math::coast(steps[u], row);
  at.missed.wv = static_cast<float>(-warp_sum(row.moved));
  at.second = static_cast<float>(root * root);
}

/// All lanes call it. kCoasts: with the coasting steps of adamw, where rows lag.
template <bool kCoasts>
__device__ StoredRow stored_row(const HeadRows& rows, int64_t i) {
  StoredRow at{row_of(rows, i), 0, false, {}, 1};
  at.offset = at.row * rows.columns;
  if (rows.last_update != nullptr && rows.last_update[at.row] < rows.next) {
    at.lags = true;
    at.missed = rows.steps[rows.last_update[at.row] - rows.first];
    if constexpr (kCoasts) coast_row(rows, at);
  }
  return at;
}

/// N columns of weight and momentum from column d on, caught up. Momentum is read only where `with_momentum` or where
/// catching up needs it.
template <int N>
struct Elements {
  float w[N], v[N];
};
template <int N, class W, class M>
__device__ Elements<N> read_row(const HeadRows& rows, const StoredRow& at, int64_t d, bool with_momentum) {
  Elements<N> e{};
  load(static_cast<const W*>(rows.weight) + at.offset + d, e.w);
  if (with_momentum || at.lags) load(static_cast<const M*>(rows.momentum) + at.offset + d, e.v);
  if (at.lags) {
    for (int k = 0; k < N; ++k) math::catch_up(at.missed, e.w[k], e.v[k]);
  }
  return e;
}

/// N elements of a row of `to`, of weights or momentum as `what` says.
template <int N>
__device__ void write_elements(const HeadRows&, const StoredRow& at, int64_t d, const float (&x)[N], float* to,
                               math::Draw) {
  store(to + at.offset + d, x);
}
template <int N>
__device__ void write_elements(const HeadRows& rows, const StoredRow& at, int64_t d, const float (&x)[N], uint16_t* to,
                               math::Draw what) {
  const int64_t class_id = rows.first_class + (rows.classes != nullptr ? rows.classes[at.row] : at.row);
  const math::RowRandom random = math::row_random(rows.seed, rows.update, class_id, what);
  uint16_t bits[N];
  for (int k = 0; k < N; ++k) bits[k] = math::float_to_bf16_stochastic(x[k], math::rounding_bits(random, d + k));
  store_bits(to + at.offset + d, bits);
}
template <int N, class W, class M>
__device__ void write_row(const HeadRows& rows, const StoredRow& at, int64_t d, const Elements<N>& e) {
  write_elements(rows, at, d, e.w, static_cast<W*>(rows.weight), math::Draw::rounding);
  write_elements(rows, at, d, e.v, static_cast<M*>(rows.momentum), math::Draw::momentum_rounding);
}

template <bool kCoasts, int N, class W, class M, class O>
__global__ void prepare_kernel(HeadRows rows, PreparedRows to) {
  O* operand = static_cast<O*>(to.operand);
  for (int64_t i = first_row(); i < to.padded; i += row_step()) {
    float squares = 0;
    const bool real = i < rows.count;
    const StoredRow at = real ? stored_row<kCoasts>(rows, i) : StoredRow{};
    for (int64_t d = lane_id() * N; d < rows.columns; d += kWarp * N) {
      const Elements<N> e = real ? read_row<N, W, M>(rows, at, d, false) : Elements<N>{};
      for (int k = 0; k < N; ++k) squares += e.w[k] * e.w[k];
      if (operand != nullptr) store(operand + i * rows.columns + d, e.w);
    }
    squares = warp_sum(squares);
    if (real && to.inverse_norms != nullptr && lane_id() == 0) {
      to.inverse_norms[i] = to.unit_rows ? math::inverse_norm(sqrtf(squares)) : 1.0F;
    }
  }
}

template <bool kCoasts, int N, class W, class M>
__global__ void target_kernel(HeadRows rows, TargetCosines targets) {
  for (int64_t i = first_row(); i < targets.samples; i += row_step()) {
    const int64_t position = targets.position[i];
    double dot = 0, squares = 0;
    if (position >= 0) {
      const StoredRow at = stored_row<kCoasts>(rows, position);
      for (int64_t d = lane_id() * N; d < rows.columns; d += kWarp * N) {
        const Elements<N> e = read_row<N, W, M>(rows, at, d, false);
        float x[N];
        load(targets.x + i * rows.columns + d, x);
        for (int k = 0; k < N; ++k) {
          dot += double{x[k]} * double{e.w[k]};
          squares += double{e.w[k]} * double{e.w[k]};
        }
      }
    }
    dot = warp_sum(dot);
    squares = warp_sum(squares);
    const float inverse = targets.unit_rows ? math::inverse_norm(static_cast<float>(sqrt(squares))) : 1.0F;
    if (lane_id() == 0) targets.cosine[i] = position >= 0 ? dot * double{inverse} : 0.0;
  }
}

/// What of row i's gradient points along the row. Columns are read twice, here and by the caller: the second time from
/// the cache.
template <int N, class W, class M>
__device__ float along_row(const HeadRows& rows, const RowGradients& gradients, const StoredRow& at, int64_t i) {
  if (gradients.inverse_norms == nullptr) return 0;
  float dot = 0;
  for (int64_t d = lane_id() * N; d < rows.columns; d += kWarp * N) {
    const Elements<N> e = read_row<N, W, M>(rows, at, d, false);
    float u[N];
    load(gradients.u + i * rows.columns + d, u);
    for (int k = 0; k < N; ++k) dot += u[k] * e.w[k];
  }
  return math::along_row(warp_sum(dot), gradients.inverse_norms[i]);
}

template <int N, class W, class M>
__global__ void sgd_kernel(HeadRows rows, RowGradients gradients, math::SgdRule rule, const math::StepState* state) {
  if (math::updates_blocked(*state)) return;
  for (int64_t i = first_row(); i < rows.count; i += row_step()) {
    const StoredRow at = stored_row<false>(rows, i);
    const float along = along_row<N, W, M>(rows, gradients, at, i);
    for (int64_t d = lane_id() * N; d < rows.columns; d += kWarp * N) {
      Elements<N> e = read_row<N, W, M>(rows, at, d, true);
      float u[N];
      load(gradients.u + i * rows.columns + d, u);
      for (int k = 0; k < N; ++k) math::sgd_update(rule, math::row_gradient(u[k], along, e.w[k]), e.w[k], e.v[k]);
      write_row<N, W, M>(rows, at, d, e);
    }
    // All lanes have read what the row missed.
    __syncwarp();
    if (rows.last_update != nullptr && lane_id() == 0) rows.last_update[at.row] = rows.next + 1;
  }
}

/// f(d, elements, their gradient) for this lane's columns of the row, caught up; with momentum where f wants it.
template <int N, class W, class M, class F>
__device__ void each_element(const HeadRows& rows, const RowGradients& gradients, const StoredRow& at, int64_t i,
                             float along, bool with_momentum, F&& f) {
  for (int64_t d = lane_id() * N; d < rows.columns; d += kWarp * N) {
    Elements<N> e = read_row<N, W, M>(rows, at, d, with_momentum);
    float g[N];
    load(gradients.u + i * rows.columns + d, g);
    for (int k = 0; k < N; ++k) g[k] = math::row_gradient(g[k], along, e.w[k]);
    f(d, e, g);
  }
}

/// The rules that want a row's norms first: its columns are read again for each, from the cache.
template <math::UpdateKind kKind, int N, class W, class M>
__global__ void norms_kernel(HeadRows rows, RowGradients gradients, math::UpdateRule rule,
                             const math::StepState* state) {
  if (math::updates_blocked(*state)) return;
  constexpr bool kAdam = math::has_second_moment(kKind);
  math::AdamRule adam;
  if constexpr (kAdam) adam = math::adam_rule(rule, math::update_number(*state));
  for (int64_t i = first_row(); i < rows.count; i += row_step()) {
    const StoredRow at = stored_row<kKind == math::UpdateKind::adamw>(rows, i);
    const float along = along_row<N, W, M>(rows, gradients, at, i);
    float g_squares = 0, w_squares = 0;
    each_element<N, W, M>(rows, gradients, at, i, along, false, [&](int64_t, const Elements<N>& e, const float(&g)[N]) {
      for (int k = 0; k < N; ++k) {
        g_squares += g[k] * g[k];
        w_squares += e.w[k] * e.w[k];
      }
    });
    const double g_sum = warp_sum(g_squares), w_sum = warp_sum(w_squares);
    float rate = rule.lr, second = 0;
    if constexpr (kAdam) {
      second =
          math::row_second_moment(adam, rows.second_moment[at.row] * at.second, g_sum, rows.columns - rows.padding);
    }
    if constexpr (kKind == math::UpdateKind::lars) rate = math::lars_rate(rule, w_sum, g_sum);
    if constexpr (kKind == math::UpdateKind::lamb) {
      float u_squares = 0;
      each_element<N, W, M>(rows, gradients, at, i, along, true, [&](int64_t, Elements<N>& e, const float(&g)[N]) {
        for (int k = 0; k < N; ++k) {
          math::adam_mean(adam, g[k], e.v[k]);
          const float u = math::adam_direction(adam, e.w[k], e.v[k], second);
          u_squares += u * u;
        }
      });
      rate = math::lamb_rate(adam, w_sum, warp_sum(u_squares));
    }
    each_element<N, W, M>(rows, gradients, at, i, along, true, [&](int64_t d, Elements<N>& e, const float(&g)[N]) {
      for (int k = 0; k < N; ++k) {
        if constexpr (kAdam) {
          math::adam_mean(adam, g[k], e.v[k]);
          math::lamb_update(adam, rate, e.w[k], e.v[k], second);
        } else {
          math::lars_update(rule, rate, g[k], e.w[k], e.v[k]);
        }
      }
      write_row<N, W, M>(rows, at, d, e);
    });
    // All lanes have read what the row missed, and its second moment.
    __syncwarp();
    if (kAdam && lane_id() == 0) rows.second_moment[at.row] = second;
    if (rows.last_update != nullptr && lane_id() == 0) rows.last_update[at.row] = rows.next + 1;
  }
}

template <bool kCoasts, int N, class W, class M>
__global__ void keep_kernel(HeadRows rows, RowGradients gradients, bool accumulate, float* dw) {
  for (int64_t i = first_row(); i < rows.count; i += row_step()) {
    const StoredRow at = stored_row<kCoasts>(rows, i);
    const float along = along_row<N, W, M>(rows, gradients, at, i);
    for (int64_t d = lane_id() * N; d < rows.columns; d += kWarp * N) {
      const Elements<N> e = read_row<N, W, M>(rows, at, d, false);
      float u[N], sum[N] = {};
      load(gradients.u + i * rows.columns + d, u);
      if (accumulate) load(dw + i * rows.columns + d, sum);
      for (int k = 0; k < N; ++k) sum[k] += math::row_gradient(u[k], along, e.w[k]);
      store(dw + i * rows.columns + d, sum);
    }
  }
}

template <bool kCoasts, int N, class W, class M>
__global__ void catch_up_kernel(HeadRows rows, int64_t few, RowList except) {
  for (int64_t i = first_row(); i < rows.count; i += row_step()) {
    // Of rows that are left alone nothing is read: others may be writing them.
    if (place_of(except.rows, except.count, row_of(rows, i)) >= 0) continue;
    const StoredRow at = stored_row<kCoasts>(rows, i);
    if (rows.next - rows.last_update[at.row] <= few) continue;
    for (int64_t d = lane_id() * N; at.lags && d < rows.columns; d += kWarp * N) {
      write_row<N, W, M>(rows, at, d, read_row<N, W, M>(rows, at, d, true));
    }
    __syncwarp();
    if (kCoasts && at.lags && lane_id() == 0) rows.second_moment[at.row] *= at.second;
    if (lane_id() == 0) rows.last_update[at.row] = rows.next;
  }
}

template <class W>
__global__ void init_kernel(RowInit init) {
  const int64_t groups = (init.columns + 3) / 4;  // one draw serves four columns
  for (int64_t i = global_thread(); i < init.count * groups; i += grid_threads()) {
    const int64_t row = i / groups, d = i % groups * 4;
    const math::Normal4 n =
        math::normal4(math::random4(init.seed, math::Draw::center_init, static_cast<uint64_t>(init.first_class + row),
                                    static_cast<uint64_t>(d) / 4));
    W* to = static_cast<W*>(init.rows) + row * init.columns;
    for (int k = 0; k < 4 && d + k < init.columns; ++k) {
      const bool drawn = d + k < init.columns - init.zero_columns;
      const float value[1] = {drawn ? static_cast<float>(double{init.std} * n.x[k]) : 0.0F};
      store(to + d + k, value);
    }
  }
}

template <int N>
__global__ void normalize_kernel(RowNormalize args) {
  for (int64_t i = first_row(); i < args.rows; i += row_step()) {
    const int64_t at = i * args.columns;
    float squares = 0, e[N];
    for (int64_t d = lane_id() * N; d < args.columns; d += kWarp * N) {
      load(args.x + at + d, e);
      for (int k = 0; k < N; ++k) squares += e[k] * e[k];
    }
    const float norm = sqrtf(warp_sum(squares)), inverse = math::inverse_norm(norm);
    for (int64_t d = lane_id() * N; d < args.columns; d += kWarp * N) {
      load(args.x + at + d, e);
      for (int k = 0; k < N; ++k) e[k] *= inverse;
      store(args.y + at + d, e);
    }
    if (lane_id() == 0) args.norm[i] = norm;
  }
}

template <int N>
__global__ void normalize_backward_kernel(RowNormalizeBackward args) {
  const auto scale = static_cast<float>(args.state->loss_scale.scale);
  for (int64_t i = first_row(); i < args.rows; i += row_step()) {
    const int64_t at = i * args.columns;
    float dot = 0, y[N], dy[N];
    for (int64_t d = lane_id() * N; d < args.columns; d += kWarp * N) {
      load(args.y + at + d, y);
      load(args.dy + at + d, dy);
      for (int k = 0; k < N; ++k) dot += y[k] * dy[k];
    }
    const float norm = args.norm[i], inverse = math::inverse_norm(norm);
    const float along = math::along_unit_row(warp_sum(dot), norm);
    for (int64_t d = lane_id() * N; d < args.columns; d += kWarp * N) {
      load(args.y + at + d, y);
      load(args.dy + at + d, dy);
      for (int k = 0; k < N; ++k) dy[k] = math::unit_row_gradient(dy[k], along, y[k], inverse) * scale;
      store(args.dx + at + d, dy);
    }
  }
}

__global__ void append_one_kernel(AppendOne args) {
  for (int64_t i = global_thread(); i < args.rows * args.wide_columns; i += grid_threads()) {
    const int64_t row = i / args.wide_columns, d = i % args.wide_columns;
    args.wide[i] = d < args.columns ? args.x[row * args.columns + d] : (d == args.columns ? 1.0F : 0.0F);
  }
}

__global__ void append_one_backward_kernel(AppendOneBackward args) {
  const auto scale = static_cast<float>(args.state->loss_scale.scale);
  for (int64_t i = global_thread(); i < args.rows * args.columns; i += grid_threads()) {
    args.dx[i] = args.d_wide[i / args.columns * args.wide_columns + i % args.columns] * scale;
  }
}

/// f.operator()<N, W, M>() for the store's types of weights W and momentum M; N is 4 where rows and what lies beside
/// them allow it.
template <class F>
void with_types(bool fours, const HeadRows& rows, F&& f) {
  const auto with_momentum = [&]<int N, class W>() {
    rows.momentum_type == HeadType::f32 ? f.template operator()<N, W, float>()
                                        : f.template operator()<N, W, uint16_t>();
  };
  if (rows.type == HeadType::f32) {
    fours ? with_momentum.template operator()<4, float>() : with_momentum.template operator()<1, float>();
  } else {
    fours ? with_momentum.template operator()<4, uint16_t>() : with_momentum.template operator()<1, uint16_t>();
  }
}

/// The same of f.operator()<kCoasts, N, W, M>().
template <class F>
void with_lag(bool fours, const HeadRows& rows, F&& f) {
  with_types(fours, rows, [&]<int N, class W, class M>() {
    rows.last_update != nullptr&& rows.coasting != nullptr ? f.template operator()<true, N, W, M>()
                                                           : f.template operator()<false, N, W, M>();
  });
}

}  // namespace

void prepare_rows(const HeadRows& rows, const PreparedRows& to, cudaStream_t stream) {
  const bool fours = in_fours(rows.columns, rows.weight, rows.momentum, to.operand);
  with_lag(fours, rows, [&]<bool kCoasts, int N, class W, class M>() {
    const Grid grid{.blocks = row_blocks(to.padded), .threads = kThreads};
    if (to.type == HeadType::f32) {
      launch(prepare_kernel<kCoasts, N, W, M, float>, grid, stream, rows, to);
    } else {
      launch(prepare_kernel<kCoasts, N, W, M, uint16_t>, grid, stream, rows, to);
    }
  });
}

void target_cosines(const HeadRows& rows, const TargetCosines& targets, cudaStream_t stream) {
  const bool fours = in_fours(rows.columns, rows.weight, rows.momentum, targets.x);
  with_lag(fours, rows, [&]<bool kCoasts, int N, class W, class M>() {
    launch(target_kernel<kCoasts, N, W, M>, {.blocks = row_blocks(targets.samples), .threads = kThreads}, stream, rows,
           targets);
  });
}

void update_rows(const HeadRows& rows, const RowGradients& gradients, const math::UpdateRule& rule,
                 const math::StepState* state, cudaStream_t stream) {
  using math::UpdateKind;
  const Grid grid{.blocks = row_blocks(rows.count), .threads = kThreads};
  with_types(in_fours(rows.columns, rows.weight, rows.momentum, gradients.u), rows, [&]<int N, class W, class M>() {
    switch (rule.kind) {
      case UpdateKind::sgd:
        return launch(sgd_kernel<N, W, M>, grid, stream, rows, gradients, math::sgd_rule(rule), state);
      case UpdateKind::lars:
        return launch(norms_kernel<UpdateKind::lars, N, W, M>, grid, stream, rows, gradients, rule, state);
      case UpdateKind::adamw:
        return launch(norms_kernel<UpdateKind::adamw, N, W, M>, grid, stream, rows, gradients, rule, state);
      case UpdateKind::lamb:
        return launch(norms_kernel<UpdateKind::lamb, N, W, M>, grid, stream, rows, gradients, rule, state);
    }
  });
}

void keep_gradients(const HeadRows& rows, const RowGradients& gradients, bool accumulate, float* dw,
                    cudaStream_t stream) {
  const bool fours = in_fours(rows.columns, rows.weight, rows.momentum, gradients.u, dw);
  with_lag(fours, rows, [&]<bool kCoasts, int N, class W, class M>() {
    launch(keep_kernel<kCoasts, N, W, M>, {.blocks = row_blocks(rows.count), .threads = kThreads}, stream, rows,
           gradients, accumulate, dw);
  });
}

void catch_up_rows(const HeadRows& rows, int64_t few, const RowList& except, cudaStream_t stream) {
  if (rows.last_update == nullptr) return;
  with_lag(in_fours(rows.columns, rows.weight, rows.momentum), rows, [&]<bool kCoasts, int N, class W, class M>() {
    launch(catch_up_kernel<kCoasts, N, W, M>, {.blocks = row_blocks(rows.count), .threads = kThreads}, stream, rows,
           few, except);
  });
}

void init_rows(const RowInit& init, cudaStream_t stream) {
  const Grid grid{.blocks = blocks_for(init.count * ((init.columns + 3) / 4), kThreads), .threads = kThreads};
  launch(init.type == HeadType::f32 ? init_kernel<float> : init_kernel<uint16_t>, grid, stream, init);
}

void row_normalize(const RowNormalize& args, cudaStream_t stream) {
  const bool fours = in_fours(args.columns, args.x, args.y);
  launch(fours ? normalize_kernel<4> : normalize_kernel<1>, {.blocks = row_blocks(args.rows), .threads = kThreads},
         stream, args);
}

void row_normalize_backward(const RowNormalizeBackward& args, cudaStream_t stream) {
  const bool fours = in_fours(args.columns, args.y, args.dy, args.dx);
  launch(fours ? normalize_backward_kernel<4> : normalize_backward_kernel<1>,
         {.blocks = row_blocks(args.rows), .threads = kThreads}, stream, args);
}

void append_one(const AppendOne& args, cudaStream_t stream) {
  launch(append_one_kernel, {.blocks = blocks_for(args.rows * args.wide_columns, kThreads)}, stream, args);
}

void append_one_backward(const AppendOneBackward& args, cudaStream_t stream) {
  launch(append_one_backward_kernel, {.blocks = blocks_for(args.rows * args.columns, kThreads)}, stream, args);
}

}  // namespace plsc::kernels::cuda
