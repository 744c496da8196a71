// The last layer: a softmax whose class centres are split by class over the ranks (model-parallel): with a margin on
// cosines, a dissected one (D-Softmax), or a linear one with bias (head.kind; head_form.h says what differs).
// The algorithm is section "The margin head" of src/README.md: logits are never stored.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "head/class_graph.h"
#include "head/shard.h"
#include "kernels/math/update_rule.h"
#include "runtime/context.h"

namespace plsc {

/// What a pass over one (micro-)batch gives; the same on every rank but for d_embedding.
struct HeadResult {
  /// (3) fp64, device memory: the sum of the losses over the samples of all ranks of this micro-batch; of how many
  /// samples the target's cosine, without margin, is above every other active class's; and the sum of the intra parts
  /// of D-Softmax's losses (0 in other heads).
  Tensor sums;
  int64_t samples = 0;  // of all ranks
  int64_t active = 0;   // classes of this rank that took part
  Tensor d_embedding;   // (b, D) fp32: gradient of (sum of losses / StepInfo::global_batch), times the loss scale
};

/// What one optimizer step trains on, on this rank.
struct HeadStep {
  std::vector<std::vector<int64_t>> labels;  // of each micro-batch's samples
  StepInfo info;
  bool keeps_gradient = false;  // until end_step, however many micro-batches there are: for measure_gradient
};

/// What rows are read from a checkpoint for.
enum class RestoreFor {
  training,  // everything
  weights,   // the centres alone: momentum only where they lag behind without it
};

/// What became of this rank's rows since the checkpoint that they are read from.
struct RowChanges {
  std::vector<int64_t> fresh;  // rows that it does not have, of new classes: they lag behind nothing
  bool moved = false;          // there are classes with other numbers, on whatever rank
};

/// A tensor with one row per class, of which this rank holds [shard.begin, shard.end): for checkpoints.
struct HeadRows {
  std::string name;  // "centers", "momentum", "second_moment", "last_update"
  Tensor rows;       // (local classes, ...)
};

class MarginHead {
 public:
  virtual ~MarginHead() = default;

  virtual const ClassShard& shard() const = 0;
  /// "margin", "d_softmax" or "linear".
  virtual const std::string& kind() const = 0;
  virtual int64_t embedding_size() const = 0;
  /// Of a class's row as checkpoints have it: embedding_size, and behind it the linear head's bias with its padding.
  virtual int64_t row_columns() const = 0;
  /// "arcface m2 .5, s 64, 5,822,653 classes x 512, full softmax"
  virtual std::string description() const = 0;

  /// Draws the centres' first values, a function of (seed, class, column). A head is made without values, because most
  /// are read from a checkpoint: it needs either this or state_to_fill before its first use.
  virtual void init() = 0;

  /// Makes the next step ready: all ranks exchange their labels, which decide the active classes, and the search for
  /// these begins. It may be called while the step before is still under way on the device.
  /// Labels outside [0, classes) are an Error on every rank.
  virtual void prepare_step(Context& context, const HeadStep& step) = 0;
  /// Starts the step that was prepared. Several micro-batches keep dW until end_step, so that all of them see the
  /// same centres, and so does loss scaling; one
  /// may fuse the update into the backward pass. `update` is of the kind that the head was made for.
  virtual void begin_step(Context& context, const math::UpdateRule& update) = 0;
  // A micro-batch goes through the head in four parts. What one of them sends to the other ranks, the next one waits
  // for: other work may stand between them, parts of other micro-batches among it. Each part takes the step's
  // micro-batches in their order; all ranks call the same sequence.
  /// Embeddings (b, D) fp32 of the next micro-batch's samples leave for all ranks, which may differ in b.
  virtual void start(Context& context, const Tensor& embeddings) = 0;
  /// The forward pass. The sums of the logits leave (of a running maximum that first, and sums are waited for later).
  virtual void forward(Context& context) = 0;
  /// The loss and the backward pass; the gradient of the embeddings leaves. A loss that is not finite is marked in the
  /// step's state, and no row is changed from then on.
  virtual void backward(Context& context) = 0;
  virtual HeadResult finish(Context& context) = 0;
  /// All of them.
  HeadResult run(Context& context, const Tensor& embeddings) {
    start(context, embeddings);
    forward(context);
    backward(context);
    return finish(context);
  }
  /// Marks a kept gradient of the rows that is not finite in the step's state, on this rank.
  virtual void check_gradient(Context& context) = 0;
  /// The squares of the kept gradient of all ranks' rows into the step's state, for its global norm; end_step then
  /// clips by it. In steps that keep it (HeadStep::keeps_gradient). All ranks call it.
  virtual void measure_gradient(Context& context) = 0;
  /// Applies what has not been applied yet.
  virtual void end_step(Context& context) = 0;

  /// First loss expected of an untrained network (design: s sin m2 or s m3 + ln(active) + s^2 / 2D; D-Softmax: s d in
  /// place of the margin's; linear: ln(active)).
  virtual double expected_first_loss() const = 0;

  /// Rows that a checkpoint stores: raw, without catching anything up; live state is not changed. "last_update" is
  /// among them only where unsampled rows lag (`update: dense` with a sampling).
  virtual std::vector<HeadRows> state() = 0;
  /// The rows to fill from a checkpoint that stores tensors of the names `stored`, before restore_table. They may
  /// differ from state() where the checkpoint was trained with another sampling: its rows lag, or this head's would.
  /// Momentum takes as much memory as the centres do, so it is asked for only where it is needed.
  virtual std::vector<HeadRows> state_to_fill(const std::vector<std::string>& stored, RestoreFor purpose) = 0;
  /// What else the state needs to be read again, as JSON: the catch-up table.
  virtual std::string state_table() const = 0;
  /// Called after the tensors of state_to_fill have been filled from a checkpoint. Rows that lag there,
  /// but may not with this configuration, are caught up.
  virtual void restore_table(const std::string& table, const RowChanges& changes) = 0;
  /// Keeps the centres alone, caught up: momentum and the count of updates start again. For weights taken from another
  /// run (init.from) and for evaluation, after restore_table.
  virtual void start_over() = 0;

  /// The class graph of head.sampling.method knn; null with the other methods. While it is not built, knn samples as
  /// uniform does.
  virtual ClassGraph* graph() = 0;
  /// See ClassGraph: of the centres as they are after `step` steps, between end_step of the last of them and
  /// prepare_step of the next. All ranks call it.
  virtual ClassGraph::Built build_graph(Context& context, int64_t step, const Interrupted& interrupted) = 0;
  virtual std::optional<double> probe_graph(Context& context, int64_t step, const Interrupted& interrupted) = 0;

  /// The K classes of largest cosine (linear: of largest logit, in place of cosines) for each embedding, over all
  /// ranks: ids (b, K) i64 and cosines (b, K) f32 on the host, ties by class id. Rows that lag behind are caught up in
  /// copies. All ranks call it, with any b.
  struct Nearest {
    Tensor classes, cosines;
  };
  virtual Nearest nearest(Context& context, const Tensor& embeddings, int64_t k) = 0;
};

/// Whether a row is the same to heads of these kinds: the direction of a class's centre to all but the linear one.
bool same_rows(const std::string& kind, const std::string& other);

/// Bytes of a class's centre with its momentum.
int64_t stored_row_bytes(const StoreConfig& store, int64_t columns);

/// A head whose centres have no values yet: see MarginHead::init. `update`: how they are to be updated
/// (optimizer.head).
std::unique_ptr<MarginHead> make_margin_head(Context& context, const HeadConfig& config, int64_t classes,
                                             int64_t embedding_size, math::UpdateKind update = math::UpdateKind::sgd);

}  // namespace plsc
