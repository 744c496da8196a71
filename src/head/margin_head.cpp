// One step of the head over all ranks. Each arrow of the algorithm is one call to the backend or to a
// collective, so that CPU and GPU run this same text:
//   normalise (or append the bias's 1) -> all-gather -> target cosines -> sums over negatives -> all-reduce -> loss ->
//   backward pass with the rows' update -> reduce-scatter -> the way back through the first step.
#include "head/margin_head.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <optional>
#include <utility>

#include "head/batch.h"
#include "head/class_sampler.h"
#include "head/first_loss.h"
#include "head/gradient_norm.h"
#include "head/head_form.h"
#include "head/nearest.h"
#include "head/row_store.h"

namespace plsc {
namespace {

Tensor to_device(Context& context, const std::vector<int64_t>& values) {
  Tensor t = context.device().tensor({static_cast<int64_t>(values.size())}, Dtype::i64);
  context.device().copy(Tensor::from(values, t.shape()), t);
  return t;
}

float init_std(const HeadConfig& config, int64_t classes, int64_t columns) {
  return static_cast<float>(config.init_std > 0 ? config.init_std
                                                : std::sqrt(2.0 / static_cast<double>(classes + columns)));
}

Dtype store_type(const std::string& name) { return name == "bf16" ? Dtype::bf16 : Dtype::f32; }

class ShardedMarginHead final : public MarginHead {
 public:
  ShardedMarginHead(Context& context, const HeadConfig& config, int64_t classes, int64_t embedding_size,
                    math::UpdateKind update);

  const ClassShard& shard() const override { return shard_; }
  const std::string& kind() const override { return config_.kind; }
  int64_t embedding_size() const override { return form_.embedding_size; }
  int64_t row_columns() const override { return form_.columns(); }
  std::string description() const override { return describe(form_, config_, shard_.total); }

  void init() override { store_.init(context_, init_std(config_, shard_.total, embedding_size())); }
  void prepare_step(Context& context, const HeadStep& step) override;
  void begin_step(Context& context, const math::UpdateRule& update) override;
  void start(Context& context, const Tensor& embeddings) override;
  void forward(Context& context) override;
  void backward(Context& context) override;
  HeadResult finish(Context& context) override;
  void check_gradient(Context& context) override;
  void measure_gradient(Context& context) override;
  void end_step(Context& context) override;

  double expected_first_loss() const override;

  std::vector<HeadRows> state() override { return named(store_.state(context_)); }
  std::vector<HeadRows> state_to_fill(const std::vector<std::string>& stored, RestoreFor purpose) override {
    return named(store_.state_to_fill(context_, stored, purpose));
  }
  std::string state_table() const override { return store_.table(); }
  void restore_table(const std::string& table, const RowChanges& changes) override {
    store_.restore_table(context_, table, changes);
  }
  void start_over() override { store_.start_over(context_); }

  ClassGraph* graph() override { return graph_ ? &*graph_ : nullptr; }
  ClassGraph::Built build_graph(Context& context, int64_t step, const Interrupted& interrupted) override;
  std::optional<double> probe_graph(Context& context, int64_t step, const Interrupted& interrupted) override;

  Nearest nearest(Context& context, const Tensor& embeddings, int64_t k) override {
    RowStore::View rows = store_.view(context, RowAccess::read);
    return nearest_classes(context, {rows, shard_, form_}, embeddings, k);
  }

 private:
  /// A micro-batch as all ranks see it, with what the device needs to know of it.
  struct MicroBatch {
    GlobalLabels global;
    int64_t own = 0;         // samples of this rank
    Tensor labels, targets;  // (places) i64: the labels, and those of this shard as rows of it, -1 for others
  };
  /// What a forward pass leaves for its backward pass.
  struct Logits {
    HeadPass pass;
    RowStore::View rows;
    HeadSums sums;
    Tensor reduced;           // (2, B) fp64: sums of the negatives' exponentials, and the target's cosines
    Tensor maxima;            // (2, B): the negatives' largest cosine, and the shift of their sums
    Tensor own_shift;         // (B): of a running shift, this rank's
    Pending largest, summed;  // maxima and `reduced` on their way over the ranks
  };
  /// A micro-batch in the head, between two parts of its way.
  struct UnderWay {
    size_t batch = 0;                // of the step
    std::optional<HeadInput> input;  // of this rank
    RowsUnderWay embeddings;         // from `start` to `forward`
    std::optional<Logits> logits;    // from `forward` to `backward`
    RowsUnderWay d_embeddings;       // from `backward` to `finish`
    HeadResult result;
  };
  /// A step from prepare_step to end_step.
  struct Step {
    StepInfo info;
    std::vector<MicroBatch> batches;
    Sampling sampling;
    bool clips = false;  // the gradient is part of the norm by which it is clipped
    // From begin_step on:
    math::UpdateRule update;
    ActiveClasses active;
    Tensor dweight;  // (active, D) where the update waits for the step's end
    // Micro-batches whose `start`, `forward`, `backward` and `finish` have been.
    size_t started = 0, measured = 0, learnt = 0, done = 0;
    std::deque<UnderWay> under_way;  // those that have begun and are not done, in their order
  };

  MicroBatch micro_batch(Context& context, const std::vector<int64_t>& labels) const;
  HeadPass make_pass(Context& context, const MicroBatch& batch, const Tensor& x) const;
  /// The micro-batch that a part of the way is due for; counts it.
  UnderWay& next_of(size_t& part);
  /// Sums over this rank's classes, and their way to those over all ranks.
  void start_sums(Context& context, Logits& of) const;
  static void finish_sums(Context& context, Logits& of);
  /// (3): see HeadResult::sums.
  Tensor loss(Context& context, const MicroBatch& batch, const Logits& of, HeadGradient& gradient) const;
  static std::vector<HeadRows> named(const std::vector<std::pair<std::string, Tensor>>& tensors) {
    std::vector<HeadRows> out;
    for (const auto& [name, rows] : tensors) out.push_back({name, rows});
    return out;
  }

  Context& context_;
  HeadConfig config_;
  HeadForm form_;
  ClassShard shard_;
  RowStore store_;
  math::UpdateKind update_;
  std::optional<ClassGraph> graph_;  // of method knn
  std::optional<Step> next_, step_;
};

ShardedMarginHead::ShardedMarginHead(Context& context, const HeadConfig& config, int64_t classes,
                                     int64_t embedding_size, math::UpdateKind update)
    : context_(context),
      config_(config),
      form_(head_form(config, embedding_size)),
      shard_(class_shard(classes, context.ranks(), context.rank())),
      store_(context, {.first_class = shard_.begin,
                       .rows = shard_.size(),
                       .columns = form_.columns(),
                       .zero_columns = form_.bias_columns(),
                       .type = store_type(config.store.dtype),
                       .momentum = store_type(config.store.momentum),
                       .on_host = config.store.tier == "host",
                       .lagging = config.sampling.method != "full" && config.update == "dense",
                       .update = update,
                       .padding = form_.padding()}),
      update_(update) {
  if (config.sampling.method == "knn") graph_.emplace(config.sampling, shard_);
}

ShardedMarginHead::MicroBatch ShardedMarginHead::micro_batch(Context& context,
                                                             const std::vector<int64_t>& labels) const {
  MicroBatch batch;
  batch.own = static_cast<int64_t>(labels.size());
  batch.global = gather_labels(context.host, labels, shard_.total);
  std::vector<int64_t> targets = batch.global.labels;
  for (int64_t& t : targets) t = t >= shard_.begin && t < shard_.end ? t - shard_.begin : -1;
  batch.labels = to_device(context, batch.global.labels);
  batch.targets = to_device(context, targets);
  return batch;
}

void ShardedMarginHead::prepare_step(Context& context, const HeadStep& step) {
  PLSC_CHECK(!next_ && !step.labels.empty() && step.info.global_batch >= 1);
  const MemoryScope scope(context.device(), MemoryUse::head);
  Step next;
  next.info = step.info;
  next.clips = step.keeps_gradient;
  std::vector<int64_t> all;
  for (const auto& labels : step.labels) {
    next.batches.push_back(micro_batch(context, labels));
    const auto& global = next.batches.back().global.labels;
    all.insert(all.end(), global.begin(), global.end());
  }
  next.sampling = graph_ && graph_->built() ? graph_->start(context, next.info.step, all)
                                            : start_sampling(context, config_.sampling, shard_, next.info.step, all);
  store_.prepare_step(context, next.sampling);
  next_ = std::move(next);
}

void ShardedMarginHead::begin_step(Context& context, const math::UpdateRule& update) {
  PLSC_CHECK(!step_ && next_);
  PLSC_CHECK(update.kind == update_, "rows of {} updated by {}", math::name_of(update_), math::name_of(update.kind));
  const MemoryScope scope(context.device(), MemoryUse::head);
  step_ = std::move(next_);
  next_.reset();
  step_->update = update;
  step_->active = store_.begin_step(step_->sampling);
  // A step that may be skipped knows so only after its backward pass.
  const bool keeps = step_->batches.size() > 1 || context.loss_scaling || step_->clips;
  if (keeps) step_->dweight = context.device().tensor({step_->active.local, store_.columns()});
}

void ShardedMarginHead::start(Context& context, const Tensor& embeddings) {
  PLSC_CHECK(step_ && step_->started < step_->batches.size());
  const MemoryScope scope(context.device(), MemoryUse::head);
  const MicroBatch& batch = step_->batches[step_->started];
  PLSC_CHECK(embeddings.dim(0) == batch.own);
  UnderWay& way = step_->under_way.emplace_back();
  way.batch = step_->started++;
  // What all ranks' rows are multiplied with.
  way.input.emplace(context, form_, embeddings);
  way.embeddings = start_gather_rows(context, way.input->rows(), batch.global.part);
}

ShardedMarginHead::UnderWay& ShardedMarginHead::next_of(size_t& part) {
  PLSC_CHECK(step_ && part >= step_->done && part - step_->done < step_->under_way.size(),
             "a part of the head before the one that it follows");
  return step_->under_way[part++ - step_->done];
}

void ShardedMarginHead::forward(Context& context) {
  const MemoryScope scope(context.device(), MemoryUse::head);
  UnderWay& way = next_of(step_->measured);
  Logits& logits = way.logits.emplace();
  const Tensor x = finish_rows(context, std::move(way.embeddings), "embeddings");
  logits.pass = make_pass(context, step_->batches[way.batch], x);
  logits.rows = store_.step_view(context, step_->dweight.defined() ? RowAccess::read : RowAccess::update);
  start_sums(context, logits);
}

void ShardedMarginHead::backward(Context& context) {
  const MemoryScope scope(context.device(), MemoryUse::head);
  PLSC_CHECK(step_ && step_->learnt < step_->measured, "a backward pass of the head before its forward pass");
  Step& step = *step_;
  UnderWay& way = next_of(step.learnt);
  Logits& logits = *way.logits;
  finish_sums(context, logits);
  HeadGradient gradient;
  gradient.gradient_scale = 1.0 / static_cast<double>(step.info.global_batch);
  way.result.sums = loss(context, step.batches[way.batch], logits, gradient);

  // With the rows' update where this batch is the whole step.
  gradient.dx = context.device().tensor(logits.pass.x.shape(), context.sums_in_double ? Dtype::f64 : Dtype::f32);
  gradient.dweight = step.dweight;
  gradient.accumulate = way.batch > 0;
  if (!step.dweight.defined()) gradient.update = step.update;
  context.backend.head->backward_pass(logits.rows, logits.pass, gradient);
  way.logits.reset();
  way.d_embeddings = start_scatter_rows(context, gradient.dx);
}

HeadResult ShardedMarginHead::finish(Context& context) {
  const MemoryScope scope(context.device(), MemoryUse::head);
  PLSC_CHECK(step_ && step_->done < step_->learnt, "the end of a micro-batch in the head before its backward pass");
  UnderWay way = std::move(step_->under_way.front());
  step_->under_way.pop_front();
  ++step_->done;
  const MicroBatch& batch = step_->batches[way.batch];
  Tensor d_input = finish_rows(context, std::move(way.d_embeddings), "gradient of the embeddings").rows(0, batch.own);
  if (context.sums_in_double) {
    Tensor rounded = context.device().tensor(d_input.shape());
    context.nn().cast(d_input, rounded);
    d_input = rounded;
  }
  way.result.samples = batch.global.samples;
  way.result.active = step_->active.local;
  way.result.d_embedding = way.input->gradient(context, d_input);
  return std::move(way.result);
}

HeadPass ShardedMarginHead::make_pass(Context& context, const MicroBatch& batch, const Tensor& x) const {
  HeadPass pass;
  pass.x = x;
  pass.position = batch.targets;
  if (step_->active.rows.defined()) {
    pass.position = context.device().tensor(batch.targets.shape(), Dtype::i64);
    context.backend.head->find_rows(step_->active.rows, batch.targets, pass.position);
  }
  pass.unit_rows = !form_.linear;
  pass.logits = form_.logits;
  // The gradient of the cosines would leave fp16's range; bf16's is that of fp32.
  const bool narrow = context.activations != Dtype::f32;
  pass.compute = narrow && context.device().supports(Dtype::bf16) ? Dtype::bf16 : Dtype::f32;
  pass.fixed_order = context.sums_in_double;
  return pass;
}

void ShardedMarginHead::start_sums(Context& context, Logits& of) const {
  HeadOps& ops = *context.backend.head;
  const int64_t batch = of.pass.x.dim(0);
  HeadSums& sums = of.sums;
  of.reduced = context.device().tensor({2, batch}, Dtype::f64);
  of.maxima = context.device().tensor({2, batch});
  Tensor cosine = of.reduced.rows(1, 1).reshape({batch});
  sums.sum = of.reduced.rows(0, 1).reshape({batch});
  sums.max_cosine = of.maxima.rows(0, 1).reshape({batch});
  sums.shift = of.maxima.rows(1, 1).reshape({batch});
  const std::optional<double> shift = form_.fixed_shift(shard_.total);
  sums.fixed_shift = shift.has_value();
  if (shift) {
    const std::vector<float> shifts(static_cast<size_t>(batch), static_cast<float>(*shift));
    context.device().copy(Tensor::from(shifts, {batch}), sums.shift);
  }
  ops.target_pass(of.rows, of.pass, cosine);
  ops.forward_pass(of.rows, of.pass, sums);

  // The maximum of the negatives' cosines is there for the accuracy alone: B floats beside the loss's 2 B, in flight
  // with them. Only a running shift must be agreed on first, because sums are relative to it.
  if (sums.fixed_shift) {
    of.largest = context.comm.start_all_reduce(sums.max_cosine, ReduceOp::max);
    of.summed = context.comm.start_all_reduce(of.reduced, ReduceOp::sum);
  } else {
    of.own_shift = context.device().tensor({batch});
    context.device().copy(sums.shift, of.own_shift);
    of.largest = context.comm.start_all_reduce(of.maxima, ReduceOp::max);
  }
}

void ShardedMarginHead::finish_sums(Context& context, Logits& of) {
  HeadOps& ops = *context.backend.head;
  if (of.sums.fixed_shift) {
    context.comm.wait(std::move(of.summed), "sums of the logits");
    context.comm.wait(std::move(of.largest), "largest cosines");
    return;
  }
  context.comm.wait(std::move(of.largest), "largest logits");
  if (context.sums_in_double) {
    // Exponentials against a rank's own maximum round otherwise than those against the largest: once more.
    HeadSums again = of.sums;
    again.fixed_shift = true;
    again.max_cosine = context.device().tensor({of.pass.x.dim(0)});
    ops.forward_pass(of.rows, of.pass, again);
  } else {
    ops.rescale_sums(of.sums.sum, of.own_shift, of.sums.shift);
  }
  context.comm.all_reduce(of.reduced, ReduceOp::sum, "sums of the logits");
}

Tensor ShardedMarginHead::loss(Context& context, const MicroBatch& batch, const Logits& of,
                               HeadGradient& gradient) const {
  const int64_t places = batch.global.places();
  HeadLossArgs args;
  args.sum = of.reduced.rows(0, 1).reshape({places});
  args.target_cosine = of.reduced.rows(1, 1).reshape({places});
  args.shift = of.sums.shift;
  args.max_cosine = of.sums.max_cosine;
  args.labels = batch.labels;
  args.rule = form_.loss;
  args.gradient_scale = gradient.gradient_scale;
  gradient.log_sum = args.log_sum = context.device().tensor({places});
  gradient.target_gradient = args.target_gradient = context.device().tensor({places});
  args.result = context.device().tensor({3}, Dtype::f64);
  // Every rank sees the same reduced sums, so that a loss that is not finite stops all of them together.
  context.backend.head->loss(args);
  return args.result;
}

void ShardedMarginHead::check_gradient(Context& context) {
  if (step_ && step_->dweight.defined()) context.backend.optim->check_finite(step_->dweight);
}

void ShardedMarginHead::measure_gradient(Context& context) {
  PLSC_CHECK(step_ && step_->clips && step_->done == step_->batches.size());
  const MemoryScope scope(context.device(), MemoryUse::head);
  measure_head_gradient(context, step_->dweight);
}

void ShardedMarginHead::end_step(Context& context) {
  PLSC_CHECK(step_ && step_->done == step_->batches.size());
  const MemoryScope scope(context.device(), MemoryUse::head);
  if (step_->clips) context.backend.optim->clip(step_->dweight);
  if (step_->dweight.defined()) {
    RowStore::View rows = store_.step_view(context, RowAccess::update);
    context.backend.head->update_rows(rows, step_->dweight, step_->update);
  }
  store_.finish_update(context, step_->update);
  step_.reset();
}

ClassGraph::Built ShardedMarginHead::build_graph(Context& context, int64_t step, const Interrupted& interrupted) {
  PLSC_CHECK(graph_ && !step_ && !next_);
  RowStore::View rows = store_.view(context, RowAccess::read);
  return graph_->build(context, rows, step, interrupted);
}

std::optional<double> ShardedMarginHead::probe_graph(Context& context, int64_t step, const Interrupted& interrupted) {
  PLSC_CHECK(graph_ && !step_ && !next_);
  std::vector<int64_t> own, local;
  for (const int64_t c : probe_classes(context.seed, step, shard_.total)) {
    if (c < shard_.begin || c >= shard_.end) continue;
    own.push_back(c);
    local.push_back(c - shard_.begin);
  }
  RowStore::View all = store_.view(context, RowAccess::read);
  RowStore::View queries = store_.view(context, RowAccess::read, to_device(context, local));
  return graph_->probe(context, {all, queries, own}, interrupted);
}

double ShardedMarginHead::expected_first_loss() const {
  const double active = std::max(1.0, static_cast<double>(shard_.total) * active_part(config_.sampling, shard_.total));
  if (form_.linear) return std::log(active);  // small weights: all logits are next to 0
  return plsc::expected_first_loss({form_.loss, std::llround(active), embedding_size()});
}

}  // namespace

bool same_rows(const std::string& kind, const std::string& other) { return (kind == "linear") == (other == "linear"); }

int64_t stored_row_bytes(const StoreConfig& store, int64_t columns) {
  return columns * static_cast<int64_t>(dtype_size(store_type(store.dtype)) + dtype_size(store_type(store.momentum)));
}

std::unique_ptr<MarginHead> make_margin_head(Context& context, const HeadConfig& config, int64_t classes,
                                             int64_t embedding_size, math::UpdateKind update) {
  PLSC_CHECK(classes >= 1 && embedding_size >= 1, "{} classes x {}", classes, embedding_size);
  return std::make_unique<ShardedMarginHead>(context, config, classes, embedding_size, update);
}

}  // namespace plsc
