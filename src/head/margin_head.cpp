// One step of the margin head over all ranks. Each arrow of the algorithm is one call to the backend or to a
// collective, so that CPU and GPU run this same text:
//   normalise -> all-gather -> target cosines -> sums over negatives -> all-reduce -> loss -> backward pass with the
//   rows' update -> reduce-scatter -> the normalisation's own backward.
#include "head/margin_head.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "head/batch.h"
#include "head/class_sampler.h"
#include "head/first_loss.h"
#include "head/nearest.h"
#include "head/row_store.h"

namespace plsc {
namespace {

math::MarginRule margin_rule(const HeadConfig& config) {
  const MarginConfig& m = config.margin;
  return {.m1 = m.m1, .m2 = m.m2, .m3 = m.m3, .straight_through = config.gradient == "straight_through"};
}

/// Logits lie in [-s, s], so that their sum of exponentials is bounded on both sides: a shift known beforehand keeps
/// it within fp32, up to this width. Beyond it every sample needs its own maximum.
constexpr double kWidestFixedShift = 172;
bool shift_is_fixed(double scale, int64_t classes) {
  return 2 * scale + std::log(static_cast<double>(classes)) <= kWidestFixedShift;
}
double fixed_shift(double scale, int64_t classes) { return scale + std::log(static_cast<double>(classes)) - 86; }

Tensor to_device(Context& context, const std::vector<int64_t>& values) {
  Tensor t = context.device().tensor({static_cast<int64_t>(values.size())}, Dtype::i64);
  context.device().copy(Tensor::from(values, t.shape()), t);
  return t;
}

float init_std(const HeadConfig& config, int64_t classes, int64_t columns) {
  return static_cast<float>(config.init_std > 0 ? config.init_std
                                                : std::sqrt(2.0 / static_cast<double>(classes + columns)));
}

class ShardedMarginHead final : public MarginHead {
 public:
  ShardedMarginHead(Context& context, const HeadConfig& config, int64_t classes, int64_t embedding_size);

  const ClassShard& shard() const override { return shard_; }
  int64_t embedding_size() const override { return store_.columns(); }
  std::string description() const override;

  void init() override { store_.init(context_, init_std(config_, shard_.total, embedding_size())); }
  void begin_step(Context& context, std::span<const int64_t> labels, int64_t micro_batches, const StepInfo& step,
                  const math::SgdRule& update) override;
  HeadResult run(Context& context, const Tensor& embeddings, std::span<const int64_t> labels) override;
  void end_step(Context& context) override;

  double expected_first_loss() const override;

  std::vector<HeadRows> state() override { return named(store_.state(context_)); }
  std::vector<HeadRows> state_to_fill(const std::vector<std::string>& stored, RestoreFor purpose) override {
    return named(store_.state_to_fill(context_, stored, purpose));
  }
  std::string state_table() const override { return store_.table(); }
  void restore_table(const std::string& table) override { store_.restore_table(context_, table); }
  void start_over() override { store_.start_over(context_); }

  Nearest nearest(Context& context, const Tensor& embeddings, int64_t k) override {
    RowStore::View rows = store_.view(context, RowAccess::read);
    return nearest_classes(context, rows, shard_, embeddings, k);
  }

 private:
  /// What stands between begin_step and end_step.
  struct Step {
    StepInfo info;
    math::SgdRule update;
    GlobalLabels labels;  // of all micro-batches
    ActiveClasses active;
    Tensor dweight;  // (active, D) where the update waits for several micro-batches
    int64_t micro_batches = 0, done = 0;
  };

  HeadPass make_pass(Context& context, const GlobalLabels& batch, const Tensor& x) const;
  /// Sums over all ranks: (2, B) of the negatives' exponentials and of the target's cosine.
  Tensor sums_over_ranks(Context& context, RowSource& rows, const HeadPass& pass, HeadSums& sums) const;
  HeadLoss loss(Context& context, const GlobalLabels& batch, const Tensor& reduced, const HeadSums& sums,
                HeadGradient& gradient) const;
  static std::vector<HeadRows> named(const std::vector<std::pair<std::string, Tensor>>& tensors) {
    std::vector<HeadRows> out;
    for (const auto& [name, rows] : tensors) out.push_back({name, rows});
    return out;
  }

  Context& context_;
  HeadConfig config_;
  math::MarginRule margin_;
  ClassShard shard_;
  RowStore store_;
  std::optional<Step> step_;
};

ShardedMarginHead::ShardedMarginHead(Context& context, const HeadConfig& config, int64_t classes,
                                     int64_t embedding_size)
    : context_(context),
      config_(config),
      margin_(margin_rule(config)),
      shard_(class_shard(classes, context.ranks(), context.rank())),
      store_(context, shard_.begin, {shard_.size(), embedding_size},
             config.sampling.method == "uniform" && config.update == "dense") {}

void ShardedMarginHead::begin_step(Context& context, std::span<const int64_t> labels, int64_t micro_batches,
                                   const StepInfo& info, const math::SgdRule& update) {
  PLSC_CHECK(!step_ && micro_batches >= 1 && info.global_batch >= 1);
  Step step;
  step.info = info;
  step.update = update;
  step.micro_batches = micro_batches;
  step.labels = gather_labels(context.host, labels, shard_.total);
  step.active = sample_classes(context, config_.sampling, shard_, info.step, step.labels.labels);
  if (micro_batches > 1) step.dweight = context.device().tensor({step.active.local, embedding_size()});
  step_ = std::move(step);
}

HeadResult ShardedMarginHead::run(Context& context, const Tensor& embeddings, std::span<const int64_t> labels) {
  PLSC_CHECK(step_ && step_->done < step_->micro_batches);
  PLSC_CHECK(embeddings.dim(0) == static_cast<int64_t>(labels.size()) && embeddings.dim(1) == embedding_size());
  HeadOps& ops = *context.backend.head;
  Step& step = *step_;
  const GlobalLabels batch = step.micro_batches == 1 ? step.labels : gather_labels(context.host, labels, shard_.total);

  // Unit embeddings of all ranks.
  Tensor unit = context.device().tensor(embeddings.shape());
  Tensor norm = context.device().tensor({embeddings.dim(0)});
  ops.row_normalize(embeddings, unit, norm);
  const HeadPass pass = make_pass(context, batch, gather_rows(context, unit, batch.part, "embeddings"));

  // Forward.
  const bool fused = step.micro_batches == 1;
  RowStore::View rows = store_.view(context, fused ? RowAccess::update : RowAccess::read, step.active.rows);
  HeadSums sums;
  const Tensor reduced = sums_over_ranks(context, rows, pass, sums);
  HeadGradient gradient;
  gradient.gradient_scale = 1.0 / static_cast<double>(step.info.global_batch);
  const HeadLoss loss_value = loss(context, batch, reduced, sums, gradient);

  // Backward, with the rows' update where this batch is the whole step.
  gradient.dx = context.device().tensor(pass.x.shape(), context.sums_in_double ? Dtype::f64 : Dtype::f32);
  gradient.dweight = step.dweight;
  gradient.accumulate = step.done > 0;
  if (fused) gradient.update = step.update;
  ops.backward_pass(rows, pass, gradient);
  ++step.done;

  HeadResult result;
  result.loss_sum = loss_value.sum;
  result.correct = loss_value.correct;
  result.samples = batch.samples;
  result.active = step.active.local;
  result.d_embedding = context.device().tensor(embeddings.shape());
  Tensor d_unit = scatter_rows(context, gradient.dx, embeddings.dim(0), "gradient of the embeddings");
  if (context.sums_in_double) {
    Tensor rounded = context.device().tensor(d_unit.shape());
    context.nn().cast(d_unit, rounded);
    d_unit = rounded;
  }
  ops.row_normalize_backward(unit, norm, d_unit, result.d_embedding);
  return result;
}

HeadPass ShardedMarginHead::make_pass(Context& context, const GlobalLabels& batch, const Tensor& x) const {
  std::vector<int64_t> places(batch.labels.size(), -1);
  for (size_t i = 0; i < places.size(); ++i) {
    const int64_t label = batch.labels[i];
    if (label >= shard_.begin && label < shard_.end) places[i] = step_->active.place(label - shard_.begin);
  }
  HeadPass pass;
  pass.x = x;
  pass.position = to_device(context, places);
  pass.scale = static_cast<float>(config_.scale);
  if (config_.interclass_filter) pass.filter = static_cast<float>(*config_.interclass_filter);
  pass.compute = context.activations;
  return pass;
}

Tensor ShardedMarginHead::sums_over_ranks(Context& context, RowSource& rows, const HeadPass& pass,
                                          HeadSums& sums) const {
  HeadOps& ops = *context.backend.head;
  const int64_t batch = pass.x.dim(0);
  Tensor reduced = context.device().tensor({2, batch}, Dtype::f64), maxima = context.device().tensor({2, batch});
  Tensor cosine = reduced.rows(1, 1).reshape({batch});
  sums.sum = reduced.rows(0, 1).reshape({batch});
  sums.max_cosine = maxima.rows(0, 1).reshape({batch});
  sums.shift = maxima.rows(1, 1).reshape({batch});
  sums.fixed_shift = shift_is_fixed(config_.scale, shard_.total);
  if (sums.fixed_shift) {
    const std::vector<float> shifts(static_cast<size_t>(batch),
                                    static_cast<float>(fixed_shift(config_.scale, shard_.total)));
    context.device().copy(Tensor::from(shifts, {batch}), sums.shift);
  }
  ops.target_pass(rows, pass, cosine);
  ops.forward_pass(rows, pass, sums);

  // The maximum of the negatives' cosines is there for the accuracy alone: B floats beside the loss's 2 B, in flight
  // with them. Only a running shift must be agreed on first, because sums are relative to it.
  if (sums.fixed_shift) {
    Pending largest = context.comm.start_all_reduce(sums.max_cosine, ReduceOp::max);
    context.comm.all_reduce(reduced, ReduceOp::sum, "sums of the logits");
    context.comm.wait(std::move(largest), "largest cosines");
  } else {
    Tensor own_shift = context.device().tensor({batch});
    context.device().copy(sums.shift, own_shift);
    context.comm.all_reduce(maxima, ReduceOp::max, "largest logits");
    if (context.sums_in_double) {
      // Exponentials against a rank's own maximum round otherwise than those against the largest: once more.
      HeadSums again = sums;
      again.fixed_shift = true;
      again.max_cosine = context.device().tensor({batch});
      ops.forward_pass(rows, pass, again);
    } else {
      ops.rescale_sums(sums.sum, own_shift, sums.shift);
    }
    context.comm.all_reduce(reduced, ReduceOp::sum, "sums of the logits");
  }
  return reduced;
}

HeadLoss ShardedMarginHead::loss(Context& context, const GlobalLabels& batch, const Tensor& reduced,
                                 const HeadSums& sums, HeadGradient& gradient) const {
  const int64_t places = batch.places();
  HeadLossArgs args;
  args.sum = reduced.rows(0, 1).reshape({places});
  args.target_cosine = reduced.rows(1, 1).reshape({places});
  args.shift = sums.shift;
  args.max_cosine = sums.max_cosine;
  args.labels = to_device(context, batch.labels);
  args.margin = margin_;
  args.scale = static_cast<float>(config_.scale);
  args.gradient_scale = gradient.gradient_scale;
  gradient.log_sum = args.log_sum = context.device().tensor({places});
  gradient.target_gradient = args.target_gradient = context.device().tensor({places});
  const HeadLoss loss = context.backend.head->loss(args);
  // Every rank sees the same reduced sums, so that every rank stops here together.
  if (!std::isfinite(loss.sum)) {
    fail_hint("lower schedule.base_lr or lengthen the warm-up, and look at the data of the steps before",
              "step {}: the loss is not finite ({}); no weight was changed in this step", step_->info.step, loss.sum);
  }
  return loss;
}

void ShardedMarginHead::end_step(Context& context) {
  PLSC_CHECK(step_ && step_->done == step_->micro_batches);
  if (step_->dweight.defined()) {
    RowStore::View rows = store_.view(context, RowAccess::update, step_->active.rows);
    context.backend.head->update_rows(rows, step_->dweight, step_->update);
  }
  store_.finish_update(context, step_->update);
  step_.reset();
}

double ShardedMarginHead::expected_first_loss() const {
  const double part = config_.sampling.method == "uniform" ? config_.sampling.ratio : 1.0;
  const double active = std::max(1.0, static_cast<double>(shard_.total) * part);
  return plsc::expected_first_loss({margin_, config_.scale, std::llround(active), embedding_size()});
}

std::string ShardedMarginHead::description() const {
  std::string text = config_.margin.name;
  if (text == "custom" || margin_.m1 != 1) text += fmt::format(" m1 {}", margin_.m1);
  if (text == "custom" || margin_.m2 != 0) text += fmt::format(" m2 {}", margin_.m2);
  if (text == "custom" || margin_.m3 != 0) text += fmt::format(" m3 {}", margin_.m3);
  text += fmt::format(", s {}, {} classes x {}, ", config_.scale, shard_.total, embedding_size());
  text += config_.sampling.method == "full" ? "full softmax"
                                            : fmt::format("uniform sampling of {}", config_.sampling.ratio);
  if (config_.interclass_filter) text += fmt::format(", inter-class filter {}", *config_.interclass_filter);
  return text;
}

}  // namespace

std::unique_ptr<MarginHead> make_margin_head(Context& context, const HeadConfig& config, int64_t classes,
                                             int64_t embedding_size) {
  PLSC_CHECK(classes >= 1 && embedding_size >= 1, "{} classes x {}", classes, embedding_size);
  return std::make_unique<ShardedMarginHead>(context, config, classes, embedding_size);
}

}  // namespace plsc
