#include "train/training_step.h"

#include <cmath>
#include <utility>

#include "base/error.h"
#include "data/input.h"

namespace plsc {
namespace {

/// Steps are named as the progress line counts them: from 1.
void require_finite(const math::StepState& state, const StepRecord& record) {
  const auto failure = static_cast<math::StepFailure>(static_cast<int64_t>(state.failed));
  if (failure == math::StepFailure::loss) {
    fail_hint("lower schedule.base_lr or lengthen the warm-up, and look at the data of the steps before",
              "step {}: the loss is not finite ({}); no weight was changed in this step", record.step, record.loss);
  }
  if (failure == math::StepFailure::gradient) {
    fail_hint("lower schedule.base_lr, lengthen the warm-up, or set train.clip_norm",
              "the gradient is not finite (norm {}) at step {}; its parameters are unchanged, and no checkpoint "
              "has this step",
              record.grad_norm, record.step);
  }
  if (state.overflow != 0 && state.loss_scale.scale < math::kSmallestLossScale) {
    fail_hint("lower schedule.base_lr or lengthen the warm-up; train.precision: bf16 or fp32 has the wider range",
              "step {}: in fp16 the loss or a gradient is not finite even with a loss scale of {}", record.step,
              state.loss_scale.scale);
  }
}

/// Of compressed gradients those that they keep to when the warm-up is over.
GradSyncOptions sync_options(const Context& context, const Config& config) {
  GradSyncOptions options{config.comm.bucket, config.comm.dtype == "bf16"};
  if (!config.comm.compress.on()) return options;
  options.share = sent_share(context, config.comm.compress);
  options.weight_decay = static_cast<float>(config.optimizer.weight_decay);
  options.trust = config.optimizer.name == "lars";
  // So that the norm of a sum of independent gradients is as train.clip_norm would have it.
  options.local_clip = config.train.clip_norm / std::sqrt(static_cast<double>(context.comm.size()));
  return options;
}

}  // namespace

class TrainingStep::Listening {
 public:
  explicit Listening(Context& context) : context_(context), before_(sent()) { listen(true); }
  ~Listening() { listen(false); }
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;

  /// Bytes since it began: of tensors, and of host values.
  int64_t bytes() const { return sent() - before_; }

 private:
  int64_t sent() const {
    int64_t groups = 0;
    for (const Collective* group : {context_.norm_group, context_.node_group})
      if (group != nullptr) groups += group->bytes_sent();
    return context_.comm.bytes_sent() + context_.host.bytes_sent() + groups;
  }
  void listen(bool on) {
    if (context_.comm_times) context_.comm_times->listen(on);
  }

  Context& context_;
  int64_t before_;
};

TrainingStep::TrainingStep(Context& context, const Config& config, Backbone& backbone, MarginHead& head,
                           NotePhase note_phase)
    : context_(context),
      config_(config),
      backbone_(backbone),
      head_(head),
      note_phase_(std::move(note_phase)),
      params_(backbone.params()),
      optimizer_(config.optimizer),
      average_(config.train.ema),
      sync_(context, backbone, sync_options(context, config)),
      network_(context, backbone, sync_, {config.train.graphs != "false", static_cast<size_t>(config.train.pipeline)}) {
  optimizer_.begin(context, params_);  // now: a first look for room on the disk counts it
  average_.begin(context, params_);
  // Gradients start their way over the ranks while the rest of the backward pass computes.
  backbone_.on_gradient = [this](Param& param) { sync_.notify(context_, param); };
}

TrainingStep::~TrainingStep() { backbone_.on_gradient = nullptr; }

void TrainingStep::prepare(int64_t step, int64_t global_batch, std::vector<Batch> batches) {
  PLSC_CHECK(!prepared_);
  HeadStep next;
  next.info = {step, 0, global_batch};
  const Listening listening(context_);
  next.keeps_gradient = config_.train.clip_head;
  for (const Batch& b : batches) next.labels.push_back(b.labels);
  head_.prepare_step(context_, next);
  prepared_ = {std::move(batches), next.info, {}, 0};
  // Where the host computes, this is time of the step before, which has not been taken yet.
  const bool before = context_.device().is_host() && !under_way_.empty();
  std::vector<CommSpan>& spans = before ? under_way_.back().spans : prepared_->spans;
  for (CommSpan& span : take_spans()) spans.push_back(std::move(span));
  int64_t& sent = before ? under_way_.back().sent : prepared_->sent;
  sent += listening.bytes();
}

math::StepInputs TrainingStep::inputs(double lr) const {
  math::StepInputs in;
  in.step = info_.step;
  in.first_sample = info_.first_sample;
  // Compressed gradients are clipped on each rank, before they are sent.
  in.clip_norm = sync_.compresses() ? 0 : config_.train.clip_norm;
  in.dynamic_scale = context_.loss_scaling ? 1 : 0;
  in.rule = optimizer_.rule(lr);
  return in;
}

void TrainingStep::set_epoch(int64_t epoch) {
  if (!sync_.set_share(context_, sent_share(context_, config_.comm.compress, epoch))) return;
  // What was recorded sends as much as it did. It may be under way.
  context_.device().synchronize();
  network_.forget();
}

void TrainingStep::run(double lr) {
  PLSC_CHECK(prepared_);
  Prepared now = std::move(*prepared_);
  prepared_.reset();
  const Listening listening(context_);
  info_ = now.info;
  StepRecord record;
  record.step = info_.step + 1;
  record.lr = lr;
  sums_ = Tensor();
  samples_ = 0;

  phase("sample classes");
  begin_step(context_.backend, inputs(lr));
  head_.begin_step(context_, optimizer_.head_rule(lr));
  zero_grad(params_);
  std::vector<Shape> shapes;
  for (const Batch& b : now.batches) shapes.push_back(b.bytes.shape());
  network_.begin_step(shapes);
  for (const StageOf& which : step_order(now.batches.size(), static_cast<size_t>(config_.train.pipeline)))
    stage(which, now.batches, lr);
  record.samples = samples_;
  finish_step();

  UnderWay step;
  step.spans = std::move(now.spans);
  for (CommSpan& span : take_spans()) step.spans.push_back(std::move(span));
  step.sent = now.sent + listening.bytes();
  step.record = record;
  step.sums = context_.device().start_read(sums_);
  step.state = start_state_read(context_.backend);
  under_way_.push_back(std::move(step));
}

std::vector<CommSpan> TrainingStep::take_spans() {
  return context_.comm_times ? context_.comm_times->take() : std::vector<CommSpan>();
}

void TrainingStep::phase(const char* name, int64_t micro_batch) {
  const StepPhase now{info_.step, name, micro_batch};
  if (now == phase_) return;
  phase_ = now;
  if (note_phase_) note_phase_(now);
}

void TrainingStep::stage(const StageOf& which, const std::vector<Batch>& batches, double lr) {
  const int64_t told = batches.size() > 1 ? static_cast<int64_t>(which.batch) : -1;
  const Batch& batch = batches[which.batch];
  switch (which.stage) {
    case Stage::forward:
      tell_state_of(batch, lr);
      phase("forward", told);
      forward(which.batch, batch, told);
      break;
    case Stage::head_forward:
      phase("head", told);
      head_.forward(context_);
      break;
    case Stage::head_backward:
      phase("head", told);
      head_.backward(context_);
      break;
    case Stage::backward:
      // Dropout draws again what the forward pass drew, for the same samples.
      if (config_.train.pipeline > 1) tell_state_of(batch, lr);
      backward(which.batch, told);
      break;
  }
}

void TrainingStep::tell_state_of(const Batch& batch, double lr) {
  info_.first_sample = batch.first_sample;
  next_micro_batch(context_.backend, inputs(lr));
}

void TrainingStep::forward(size_t index, const Batch& batch, int64_t told) {
  Tensor input = network_.input(index);
  to_network_input(context_, config_.data, batch.bytes, batch.flip, input);
  input = Tensor();  // the network's alone: its memory is free once the stem has read it
  const Tensor embeddings = network_.forward(index, info_);
  phase("head", told);
  head_.start(context_, embeddings);
}

void TrainingStep::backward(size_t index, int64_t told) {
  phase("head", told);
  const HeadResult result = head_.finish(context_);
  phase(kBackwardPhase, told);
  network_.backward(index, result.d_embedding);
  if (sums_.defined()) {
    context_.nn().add(result.sums, sums_);
  } else {
    sums_ = result.sums;
  }
  samples_ += result.samples;
}

void TrainingStep::finish_step() {
  phase("update");
  if (context_.loss_scaling) {
    // Each rank has rows of the head of its own: one that overflows makes all of them skip the step.
    head_.check_gradient(context_);
    Tensor flags = step_flags(context_.backend);
    context_.comm.all_reduce(flags, ReduceOp::max, "overflow flags");
  }
  sync_.settle(context_);
  if (config_.train.clip_head) head_.measure_gradient(context_);
  optimizer_.step(context_, params_);
  head_.end_step(context_);
  backbone_.finish_step(context_);
  average_.step(context_, params_);
  context_.backend.optim->finish_step();
}

StepRecord TrainingStep::take() {
  PLSC_CHECK(!under_way_.empty());
  UnderWay step = std::move(under_way_.front());
  under_way_.pop_front();
  const math::StepState state = to_step_state(step.state->get());
  const auto sums = step.sums->get().span<double>();
  StepRecord record = step.record;
  record.loss = sums[0] / static_cast<double>(record.samples);
  record.correct = static_cast<int64_t>(sums[1]);
  if (head_.kind() == "d_softmax") record.intra_loss = sums[2] / static_cast<double>(record.samples);
  record.grad_norm = state.grad_norm;
  record.skipped = state.overflow != 0;
  record.updates = static_cast<int64_t>(state.updates);
  if (context_.loss_scaling) record.loss_scale = state.loss_scale;
  if (context_.comm_times) {
    record.comm = CommRecord{0, step.sent};
    for (const CommSpan& span : step.spans) record.comm->exposed += span.exposed();
  }
  if (trace_) trace_->add(record.step - 1, step.spans);
  require_finite(state, record);
  return record;
}

}  // namespace plsc
