// The compute seam, part 5: the head. One call is one pass over a rank's active rows: each pass owns its tile
// loop and its scratch memory, and no call ever holds a matrix of (samples, classes). The algorithm that joins the
// passes is src/head/margin_head.cpp. B: samples of all ranks, D: columns of a row, x: what rows are multiplied with.
// A "cosine" is the product of x with a row: of unit vectors; in the linear head of both as they are, which is the
// logit.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>

#include "backend/optim_ops.h"
#include "backend/row_buffers.h"
#include "backend/row_source.h"
#include "kernels/math/softmax_loss.h"
#include "tensor/tensor.h"

namespace plsc {

/// What all passes over one batch share.
struct HeadPass {
  Tensor x;         // (B, D) fp32; zero rows for padding
  Tensor position;  // (B) i64: the target's place among the active rows here, -1 where it is on another rank (or none)
  bool unit_rows = true;       // rows count with length 1; false: as they are
  math::LogitRule logits;      // of the negatives
  Dtype compute = Dtype::f32;  // of the matrix products' inputs: f32 or bf16 (fp16's range is too narrow for them)
  bool fixed_order = false;  // a row's cosines and gradient do not depend on which others are here; f32 on a CPU alone
};

/// What the forward pass sums over this rank's negatives.
struct HeadSums {
  Tensor sum;         // (B) fp64: sum of exp(scale * cos - shift)
  Tensor shift;       // (B): read where `fixed_shift`, else written: the largest scale * cos (-inf without negatives)
  Tensor max_cosine;  // (B): written: the largest cosine of a negative, before the filter; -inf without negatives
  bool fixed_shift = true;
};

/// From sums over all ranks to the loss and to what the backward pass needs. Samples of a negative label are padding.
struct HeadLossArgs {
  Tensor sum;            // (B) fp64: HeadSums::sum over all ranks
  Tensor target_cosine;  // (B) fp64
  Tensor shift;          // (B): what the sums were shifted by
  Tensor max_cosine;     // (B): over all ranks
  Tensor labels;         // (B) i64
  math::LossRule rule;
  double gradient_scale = 1;  // 1 / samples of the step
  Tensor log_sum;             // (B) written: math::SampleLoss::log_sum; +inf for padding
  Tensor target_gradient;     // (B) written: d loss / d target cosine, gradient_scale included; 0 for padding
  /// (3) fp64 written: the sum of the samples' losses, how many targets are above max_cosine, and the sum of the
  /// losses' intra parts.
  Tensor result;
};

struct HeadGradient {
  Tensor log_sum, target_gradient;  // (B), of HeadLossArgs
  double gradient_scale = 1;
  Tensor dx;                               // (B, D) written: this rank's part of d loss / dx; fp64: summed in double
  Tensor dweight;                          // (active, D): written; undefined: the update runs inside the pass
  bool accumulate = false;                 // dweight is added to
  std::optional<math::UpdateRule> update;  // set exactly where dweight is undefined
};

/// Class j takes part when it is a positive or when its key, uniform in [0, 1) and a pure function of
/// (seed, step, class), is below `threshold`.
struct SampleRows {
  uint64_t seed = 0;
  int64_t step = 0;
  double threshold = 0;
  int64_t first_class = 0, classes = 0;  // of this rank
  Tensor positives;                      // (P) i64 on the host: rows of this rank (class - first_class), ascending
};

/// The active rows of this rank, on their way.
class SampledRows {
 public:
  virtual ~SampledRows() = default;
  /// (n) i64 in device memory, ascending. Waits until n is known, where it is not yet.
  virtual Tensor get() = 0;
};

/// First values: normal numbers of standard deviation `std`, element (i, d) a function of (seed, first_class + i, d).
struct RowDraws {
  uint64_t seed = 0;
  int64_t first_class = 0;
  float std = 1;
  int64_t zero_columns = 0;  // the last ones, which are 0
};

/// The largest cosines of each sample, best first, ties by row; cosine -inf and row -1 beyond the active rows.
struct TopRows {
  Tensor cosines;  // (b, k) fp32 written
  Tensor rows;     // (b, k) i64 written: places among the active rows
};

class HeadOps {
 public:
  virtual ~HeadOps() = default;

  /// y = x / max(|x|, 1e-12) by row; norm (rows) = |x|. As torch.nn.functional.normalize.
  virtual void row_normalize(const Tensor& x, Tensor& y, Tensor& norm) = 0;
  /// dx times the loss scale of the step's state: this is where gradients leave the head for the network.
  virtual void row_normalize_backward(const Tensor& y, const Tensor& norm, const Tensor& dy, Tensor& dx) = 0;

  /// y (rows, wider) = (x, 1, 0, ...): the column of ones meets a bias in the rows of the classes.
  virtual void append_one(const Tensor& x, Tensor& y) = 0;
  /// dx = the first columns of dy, times the loss scale.
  virtual void append_one_backward(const Tensor& dy, Tensor& dx) = 0;

  /// rows (n, D) fp32 or bf16.
  virtual void init_rows(Tensor& rows, const RowDraws& draws) = 0;
  /// Begins to find the active rows; they may be asked for a step later.
  virtual std::unique_ptr<SampledRows> start_sample(const SampleRows& args) = 0;
  /// Null where the device reads the host's memory as its own, and works on the tables where they lie.
  virtual std::unique_ptr<RowBuffers> make_row_buffers(const RowTables& tables) = 0;
  /// position (B) i64 = the place of rows[i] in `active` (n, ascending), -1 where rows[i] is -1 or is not there.
  /// All i64 in device memory.
  virtual void find_rows(const Tensor& active, const Tensor& rows, Tensor& position) = 0;

  /// cosine (B) fp64 = x . w / |w| of each sample's target in fp32 whatever `compute` is, 0 where position is -1.
  virtual void target_pass(RowSource& rows, const HeadPass& pass, Tensor& cosine) = 0;
  virtual void forward_pass(RowSource& rows, const HeadPass& pass, HeadSums& sums) = 0;
  /// sum *= exp(from - to), elementwise; an empty sum stays 0.
  virtual void rescale_sums(Tensor& sum, const Tensor& from, const Tensor& to) = 0;
  /// A sum of losses that is not finite is marked in the step's state (math::mark_not_finite).
  virtual void loss(const HeadLossArgs& args) = 0;
  /// With an update: rows stay as they are where the state blocks updates (math::updates_blocked).
  virtual void backward_pass(RowSource& rows, const HeadPass& pass, HeadGradient& gradient) = 0;

  /// One optimizer step on the active rows from a kept gradient (active, D), unless the state blocks it. Which number
  /// it has (math::update_number) the state says; rows take what kernels/math/row_update.h says of their norms.
  virtual void update_rows(RowSource& rows, const Tensor& dweight, const math::UpdateRule& update) = 0;
  /// Brings rows that missed more than `few` updates up to date where they lie.
  virtual void catch_up_rows(RowSource& rows, int64_t few) = 0;

  /// `pass` without position; products in fp32.
  virtual void top_rows(RowSource& rows, const HeadPass& pass, TopRows& top) = 0;
};

}  // namespace plsc
