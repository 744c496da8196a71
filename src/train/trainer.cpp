#include "train/trainer.h"

#include <cmath>

#include "base/error.h"
#include "data/input.h"
#include "train/run_folder.h"

namespace plsc {
namespace {

math::SgdRule row_update(const OptimizerConfig& config, double lr) {
  return {.lr = static_cast<float>(lr),
          .momentum = static_cast<float>(config.momentum),
          .weight_decay = static_cast<float>(config.weight_decay),
          .nesterov = config.nesterov};
}

}  // namespace

Trainer::Trainer(Context& context, const Config& config, TrainParts parts, RunMeta meta)
    : context_(context),
      config_(config),
      parts_(std::move(parts)),
      meta_(std::move(meta)),
      params_(parts_.backbone.params()),
      sgd_(config.optimizer, config.train.clip_norm),
      sync_(context, parts_.backbone) {
  // Gradients start their way over the ranks while the rest of the backward pass computes.
  parts_.backbone.on_gradient = [this](Param& param) { sync_.notify(context_, param); };
}

void Trainer::phase(int64_t step, const char* name) {
  if (parts_.note_phase) parts_.note_phase(step, name);
}

TrainEnd Trainer::run(int64_t first_step) {
  recorder_ = std::make_unique<Recorder>(
      Recorder::Options{config_.output, config_.log.every_steps, first_step, meta_.total_steps, context_.rank() == 0},
      context_.log);
  for (int64_t step = first_step; step < meta_.total_steps; ++step) {
    const StepRecord record = train_step(step);
    if (step == 0) check_first_loss(record);
    recorder_->note(record);

    const int64_t done = step + 1;
    recorder_->pause();
    if (due(done, config_.eval.every_steps, config_.eval.every_epochs, config_.eval.at_end)) evaluate(done);
    if (due(done, config_.checkpoint.every_steps, config_.checkpoint.every_epochs, config_.checkpoint.at_end))
      save(done);
    const bool stop = all_agree_to_stop();
    if (stop && done < meta_.total_steps) {
      if (saved_step_ != done) save(done);
      context_.log.info("stopped on request after step {}; the same command goes on from there", done);
      return TrainEnd::stopped;
    }
    recorder_->resume();
  }
  return TrainEnd::complete;
}

StepRecord Trainer::train_step(int64_t step) {
  phase(step, "data");
  const std::vector<Batch> batches = parts_.loader.next();
  StepRecord record;
  record.step = step + 1;
  record.epoch = static_cast<double>(step + 1) / static_cast<double>(meta_.steps_per_epoch);
  record.data_wait = parts_.loader.take_wait_seconds();
  record.lr = parts_.schedule.lr(step);

  StepInfo info{step, 0, meta_.global_batch};
  std::vector<int64_t> labels;
  for (const Batch& b : batches) labels.insert(labels.end(), b.labels.begin(), b.labels.end());
  phase(step, "sample classes");
  parts_.head.begin_step(context_, labels, static_cast<int64_t>(batches.size()), info,
                         row_update(config_.optimizer, record.lr));
  zero_grad(params_);
  sync_.begin(static_cast<int64_t>(batches.size()));
  for (const Batch& b : batches) {
    info.first_sample = b.first_sample;
    micro_batch(b, info, record);
  }
  record.loss /= static_cast<double>(meta_.global_batch);

  phase(step, "gradient all-reduce");
  sync_.run(context_);
  record.grad_norm = sgd_.step(context_, params_, record.lr, step);
  parts_.head.end_step(context_);
  parts_.backbone.finish_step(context_);
  return record;
}

void Trainer::micro_batch(const Batch& batch, const StepInfo& info, StepRecord& record) {
  phase(info.step, "forward");
  const Tensor embeddings = parts_.backbone.forward(
      context_, to_network_input(context_, config_.data, batch.bytes, batch.flip), Mode::train, info);
  phase(info.step, "head");
  const HeadResult result = parts_.head.run(context_, embeddings, batch.labels);
  phase(info.step, "backward");
  parts_.backbone.backward(context_, result.d_embedding);
  record.loss += result.loss_sum;
  record.correct += result.correct;
  record.samples += result.samples;
}

void Trainer::check_first_loss(const StepRecord& record) const {
  if (!config_.init.from.empty()) return;
  context_.log.info("first loss {:.3f}; an untrained network should give about {:.3f}", record.loss,
                    parts_.head.expected_first_loss());
}

bool Trainer::due(int64_t step, int64_t every_steps, double every_epochs, bool at_end) const {
  if (step == meta_.total_steps) return at_end;
  if (every_steps > 0 && step % every_steps == 0) return true;
  if (every_epochs <= 0) return false;
  // The step at which the k-th multiple of `every_epochs` is reached or passed.
  const double each = every_epochs * static_cast<double>(meta_.steps_per_epoch);
  return std::floor(static_cast<double>(step) / each + 1e-9) > std::floor(static_cast<double>(step - 1) / each + 1e-9);
}

void Trainer::evaluate(int64_t step) {
  if (parts_.evaluator == nullptr) return;
  phase(step, "evaluation");
  const std::vector<EvalResult> results = parts_.evaluator->run(context_, parts_.backbone, &parts_.head);
  context_.device().trim();  // batches of other sizes than a step's, the last one's above all
  evaluated_step_ = step;
  for (const EvalResult& result : results) {
    recorder_->note(result, step);
    if (result.set != config_.checkpoint.best_set) continue;
    const double value = result.metric(config_.checkpoint.best_metric);
    if (meta_.best_step >= 0 && value <= meta_.best_value) continue;
    meta_.best_metric = result.set + " " + config_.checkpoint.best_metric;
    meta_.best_value = value;
    meta_.best_step = step;
    save(step);
  }
  on_rank_0(context_, [&] { draw_roc(config_.output + "/roc.png", results); });
}

void Trainer::save(int64_t step) {
  if (saved_step_ == step) return;
  phase(step, "checkpoint");
  const Stopwatch watch;
  meta_.epoch = step / meta_.steps_per_epoch;
  KeepPolicy keep{config_.checkpoint.keep, config_.checkpoint.keep_every, std::nullopt};
  if (meta_.best_step >= 0) keep.best_step = meta_.best_step;
  const std::string folder =
      save_checkpoint(context_, config_.output, collect_state(parts_.backbone, parts_.head, step, meta_), keep);
  saved_step_ = step;
  context_.log.info("checkpoint {} ({})", folder, human_duration(watch.seconds()));
}

bool Trainer::all_agree_to_stop() {
  const int64_t mine = parts_.stop_requested && parts_.stop_requested() ? 1 : 0;
  for (const int64_t one : gather_values(context_.host, mine))
    if (one != 0) return true;
  return false;
}

}  // namespace plsc
