// The head's work on single rows of class centres: the twin of kernels/cpu/head_rows.h. A warp takes a row, so that
// sums along it need no barrier and are made in one fixed order. D: columns of a row.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/row_copy.h"
#include "kernels/math/catch_up.h"
#include "kernels/math/step_state.h"

namespace plsc::kernels::cuda {

/// What weights and the inputs of matrix products are stored as.
enum class HeadType : uint8_t { f32, bf16 };

/// `count` rows of a store: row i is stored row index[i] of weight and momentum, or stored row begin + i * stride where
/// index is null.
/// A stored row j that missed steps (last_update[j] < next) is read as after steps[last_update[j] - first]; with
/// coasting steps the entry wv of that is made of coasting[last_update[j] - first, next - first) and second_moment[j].
struct HeadRows {
  int64_t count = 0, columns = 0;
  void* weight = nullptr;
  HeadType type = HeadType::f32;
  void* momentum = nullptr;
  HeadType momentum_type = HeadType::f32;
  const int64_t* index = nullptr;
  int64_t begin = 0, stride = 1;
  int64_t* last_update = nullptr;  // null: nothing lags
  const math::CatchUpMatrix<float>* steps = nullptr;
  const math::CoastingStep* coasting = nullptr;
  int64_t first = 0, next = 0;
  float* second_moment = nullptr;  // by stored row, of adamw and lamb
  int64_t padding = 0;             // the last columns, which are 0 and count in no mean
  // What is bf16 is rounded by chance when it is updated: by draws of (seed, update, class, column).
  uint64_t seed = 0;
  int64_t update = 0;
  int64_t first_class = 0;           // of stored row 0
  const int64_t* classes = nullptr;  // stored row j is of class first_class + classes[j]; null: first_class + j
};

/// Rows as the matrix products take them.
struct PreparedRows {
  void* operand = nullptr;         // (padded, D) written; null: the rows are used where they lie
  HeadType type = HeadType::f32;   // of `operand`
  int64_t padded = 0;              // at least count: zero rows follow
  float* inverse_norms = nullptr;  // (count) written: math::inverse_norm(|row|), of the row in fp32; null: not wanted
  bool unit_rows = true;           // false: rows count as they are, and 1 is written instead
};
void prepare_rows(const HeadRows& rows, const PreparedRows& to, cudaStream_t stream);

/// cosine[i] = x[i] . w / |w| in double of row position[i], 0 where that is -1. x (samples, D).
struct TargetCosines {
  const float* x = nullptr;
  const int64_t* position = nullptr;
  int64_t samples = 0;
  double* cosine = nullptr;
  bool unit_rows = true;  // false: cosine[i] = x[i] . w
};
void target_cosines(const HeadRows& rows, const TargetCosines& targets, cudaStream_t stream);

/// u (count, D) = d loss / d(w / |w|) / |w|. With inverse_norms (count) it is brought behind the normalisation first
/// (kernels/math/normalize.h); where they are null it is d loss / dw already.
struct RowGradients {
  const float* u = nullptr;
  const float* inverse_norms = nullptr;
};
/// Catches up and updates (kernels/math/sgd.h, row_update.h); nothing happens where `state` blocks updates.
void update_rows(const HeadRows& rows, const RowGradients& gradients, const math::UpdateRule& rule,
                 const math::StepState* state, cudaStream_t stream);
/// dw (count, D) = d loss / dw, or has it added.
void keep_gradients(const HeadRows& rows, const RowGradients& gradients, bool accumulate, float* dw,
                    cudaStream_t stream);
/// Brings rows that missed more than `few` steps up to date where they lie, but for stored rows that are in `except`.
void catch_up_rows(const HeadRows& rows, int64_t few, const RowList& except, cudaStream_t stream);

/// Column d of row i is std times a normal number that depends on (seed, first_class + i, d) alone.
struct RowInit {
  void* rows = nullptr;  // (count, D) of `type`
  HeadType type = HeadType::f32;
  int64_t count = 0, columns = 0;
  uint64_t seed = 0;
  int64_t first_class = 0;
  float std = 1;
  int64_t zero_columns = 0;  // the last ones, which are 0
};
void init_rows(const RowInit& init, cudaStream_t stream);

/// y = x / max(|x|, floor) by row, norm (rows) = |x|.
struct RowNormalize {
  const float* x = nullptr;
  float* y = nullptr;
  float* norm = nullptr;
  int64_t rows = 0, columns = 0;
};
void row_normalize(const RowNormalize& args, cudaStream_t stream);

/// dx from dy, times the loss scale of `state`.
struct RowNormalizeBackward {
  const float* y = nullptr;
  const float* norm = nullptr;
  const float* dy = nullptr;
  float* dx = nullptr;
  int64_t rows = 0, columns = 0;
  const math::StepState* state = nullptr;
};
void row_normalize_backward(const RowNormalizeBackward& args, cudaStream_t stream);

/// wide (rows, wide_columns) = (x, 1, 0, ...) of x (rows, columns).
struct AppendOne {
  const float* x = nullptr;
  float* wide = nullptr;
  int64_t rows = 0, columns = 0, wide_columns = 0;
};
void append_one(const AppendOne& args, cudaStream_t stream);

/// dx (rows, columns) = the first columns of d_wide, times the loss scale of `state`.
struct AppendOneBackward {
  const float* d_wide = nullptr;
  float* dx = nullptr;
  int64_t rows = 0, columns = 0, wide_columns = 0;
  const math::StepState* state = nullptr;
};
void append_one_backward(const AppendOneBackward& args, cudaStream_t stream);

}  // namespace plsc::kernels::cuda
