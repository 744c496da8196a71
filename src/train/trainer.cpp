#include "train/trainer.h"

#include <cmath>
#include <utility>

#include "base/error.h"
#include "comm/errors.h"
#include "train/run_folder.h"

namespace plsc {
namespace {

/// At the start of a run the loss scale comes down from 65536 in some steps; more of them are a sign of trouble.
constexpr int64_t kManySkips = 12;

std::string best_name(const Config& config) { return config.checkpoint.best_set + " " + config.checkpoint.best_metric; }

/// The best of the steps that this run goes on from, by the metric that counts now; the same on every rank.
std::optional<Best> remembered_best(Context& context, const Config& config, int64_t first_step) {
  std::optional<Best> best;
  if (context.rank() == 0) best = read_best(checkpoints_folder(config.output));
  if (best && (best->step > first_step || best->metric != best_name(config))) best.reset();
  const std::vector<int64_t> steps = gather_values(context.host, best ? best->step : int64_t{-1});
  const std::vector<double> values = gather_values(context.host, best ? best->value : 0.0);
  if (steps[0] < 0) return std::nullopt;
  return Best{best_name(config), values[0], steps[0]};
}

}  // namespace

Trainer::Trainer(Context& context, const Config& config, TrainParts parts, RunMeta meta)
    : context_(context),
      config_(config),
      parts_(std::move(parts)),
      meta_(std::move(meta)),
      one_(context, config, parts_.backbone, parts_.head,
           [this](const StepPhase& p) { phase(p.step, p.name, p.micro_batch); }) {
  if (parts_.head.graph() == nullptr) return;
  const SamplingConfig& sampling = config.head.sampling;
  graph_.emplace(context, sampling, GraphSchedule(sampling.rebuild, parts_.schedule.warmup_steps(), map()), parts_.head,
                 [this] { return all_agree_to_stop(); });
}

void Trainer::phase(int64_t step, const char* name, int64_t micro_batch) {
  if (parts_.note_phase) parts_.note_phase(step, name);
  if (trace_) trace_->phase(step, name, micro_batch);
}

TrainEnd Trainer::run(int64_t first_step) {
  recorder_ = std::make_unique<Recorder>(
      Recorder::Options{
          .output = config_.output,
          .every_steps = config_.log.every_steps,
          .first_step = first_step,
          .total_steps = meta_.total_steps,
          .images = map().images(meta_.total_steps) - map().images(first_step),
          .batch_grows = map().grows(),
          .writes = context_.rank() == 0,
      },
      context_.log);
  best_ = remembered_best(context_, config_, first_step);
  if (!config_.log.trace.empty()) {
    trace_.emplace(context_, config_.log, first_step);
    trace_->announce(meta_.total_steps);
    one_.set_trace(&*trace_);
  }
  // Now, and not after the first epoch.
  require_checkpoint_space(context_, config_.output, largest_state(first_step));
  if (graph_) graph_->announce(first_step, meta_.total_steps);
  if (graph_ && graph_->due(first_step)) {  // the run was stopped before it was done, or its checkpoint has none for it
    update_graph(first_step);
    if (all_agree_to_stop()) {
      context_.log.info("stopped on request before the next step; the same command goes on from there");
      return TrainEnd::stopped;
    }
  }
  prepare(first_step);
  for (int64_t step = first_step; step < meta_.total_steps; ++step) {
    try {
      if (!run_step(step)) return TrainEnd::stopped;
    } catch (const PeerLost&) {
      throw;
    } catch (const TimeoutError&) {
      throw;
    } catch (...) {
      settle();
      throw;
    }
  }
  report_skipped();
  return TrainEnd::complete;
}

bool Trainer::run_step(int64_t step) {
  // Where the device works by itself, the host learns of a step while the next one is under way.
  const size_t ahead = context_.device().is_host() ? 0 : 1;
  const CheckpointConfig& checkpoint = config_.checkpoint;
  one_.set_epoch(map().at(step).epoch);
  one_.run(parts_.schedule.lr(step));
  const int64_t done = step + 1;
  const bool last = done == meta_.total_steps;
  const bool saves = due(done, checkpoint.every_steps, checkpoint.every_epochs, checkpoint.at_end);
  const bool evaluates = due(done, config_.eval.every_steps, config_.eval.every_epochs, config_.eval.at_end);
  const bool graph = !last && graph_ && graph_->due(done);
  const bool rests = last || saves || evaluates || graph;
  if (!rests) prepare(done);
  take_records(rests ? 0 : ahead);
  write_trace(last ? meta_.total_steps : done - static_cast<int64_t>(one_.under_way()));
  // Before the checkpoint, which then has the graph by which the next step samples.
  if (graph) update_graph(done);
  recorder_->pause();
  // The checkpoint comes before the evaluation: none that fails, and no sample of the next step, can cost it.
  if (saves) {
    if (last) save(done);
    if (!last) try_to_save(done);
  }
  if (!last && all_agree_to_stop()) {
    stop();
    return false;
  }
  if (evaluates) evaluate(done);
  recorder_->resume();
  if (rests && !last) prepare(done);
  return true;
}

void Trainer::write_trace(int64_t steps_done) {
  if (!trace_ || !(trace_->complete(steps_done) || steps_done == meta_.total_steps)) return;
  recorder_->pause();
  trace_->write();
  recorder_->resume();
}

void Trainer::settle() {
  take_records(0);  // where one of these steps has failed, that came first, and is what is told
  recorder_->flush(last_);
}

void Trainer::prepare(int64_t step) {
  phase(step, "data");
  std::vector<Batch> batches = parts_.loader.next();
  data_waits_.push_back(parts_.loader.take_wait_seconds());
  one_.prepare(step, map().at(step).batch, std::move(batches));
}

void Trainer::take_records(size_t left) {
  while (one_.under_way() > left) {
    phase(last_.step, "wait for the device");
    StepRecord record = one_.take();
    record.epoch = map().epochs(record.step);
    if (graph_) record.graph_age = graph_->age(record.step);
    record.data_wait = data_waits_.front();
    data_waits_.pop_front();
    if (record.step == 1) check_first_loss(record);
    recorder_->note(record);
    meta_.loss_scale = record.loss_scale;
    meta_.updates = record.updates;
    skips_in_a_row_ = record.skipped ? skips_in_a_row_ + 1 : 0;
    if (skips_in_a_row_ == kManySkips) {
      context_.log.warn("step {}: {} steps in a row overflowed in fp16 and were left out; the loss scale is {} now",
                        record.step, kManySkips, record.loss_scale->scale);
    }
    last_ = record;
  }
}

void Trainer::stop() {
  take_records(0);
  recorder_->flush(last_);
  write_trace(meta_.total_steps);  // it comes to no more
  save(last_.step);
  context_.log.info("stopped on request after step {}; the same command goes on from there", last_.step);
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
  const auto passed = [&](int64_t steps) { return std::floor(map().epochs(steps) / every_epochs + 1e-9); };
  return passed(step) > passed(step - 1);
}

void Trainer::evaluate(int64_t step) {
  if (parts_.evaluator == nullptr) return;
  phase(step, "evaluation");
  const bool of_average = evaluated_weights(config_.eval) == Weights::ema;
  std::vector<EvalResult> results = [&] {
    std::optional<AveragedWeights> averaged;
    if (of_average) averaged.emplace(parts_.backbone.params());
    return parts_.evaluator->run(context_, parts_.backbone, &parts_.head);
  }();
  for (EvalResult& result : results) result.averaged = of_average;
  one_.network_was_used();
  context_.device().trim();  // batches of other sizes than a step's, the last one's above all
  for (const EvalResult& result : results) {
    recorder_->note(result, step);
    if (result.set == config_.checkpoint.best_set) note_if_best(result, step);
  }
  if (context_.rank() != 0) return;
  try {
    draw_roc(config_.output + "/roc.png", results);
  } catch (const std::exception& e) {
    context_.log.warn("no picture of the ROC: {}", e.what());
  }
}

void Trainer::update_graph(int64_t step) {
  phase(step, "class graph");
  recorder_->pause();
  graph_->run(step, *recorder_);
  recorder_->resume();
}

void Trainer::note_if_best(const EvalResult& result, int64_t step) {
  const double value = result.metric(config_.checkpoint.best_metric);
  if (best_ && value <= best_->value) return;
  const std::optional<Best> before = std::exchange(best_, Best{best_name(config_), value, step});
  if (saved_step_ != step && !try_to_save(step)) {
    best_ = before;
    return;
  }
  on_rank_0(context_, [&] { write_best(checkpoints_folder(config_.output), *best_); });
}

CheckpointContent Trainer::state(int64_t step) {
  meta_.epoch = map().at(step).epoch;
  meta_.images = map().images(step);
  // The names are rank 0's to write, and there may be millions.
  static const std::vector<std::string> kNone;
  return collect_state(parts_.backbone, parts_.head, step, meta_, context_.rank() == 0 ? parts_.class_names : kNone);
}

CheckpointContent Trainer::largest_state(int64_t step) {
  CheckpointContent content = state(step);
  if (graph_ && !parts_.head.graph()->built()) content.head_optimizer.push_back(graph_rows(parts_.head));
  return content;
}

void Trainer::save(int64_t step) {
  if (saved_step_ == step) return;
  phase(step, "checkpoint");
  const Stopwatch watch;
  KeepPolicy keep{config_.checkpoint.keep, config_.checkpoint.keep_every, std::nullopt};
  if (best_) keep.best_step = best_->step;
  const std::string folder = save_checkpoint(context_, config_.output, state(step), keep);
  saved_step_ = step;
  context_.log.info("checkpoint {} ({})", folder, human_duration(watch.seconds()));
  report_skipped();
}

bool Trainer::try_to_save(int64_t step) {
  try {
    save(step);
    return true;
  } catch (const AgreedError& e) {
    // Every rank is here. What has been learnt is worth more in memory than nowhere: a disk may have room again later.
    if (context_.rank() == 0) context_.log.error("step {} is not saved, training goes on: {}", step, e.what());
    return false;
  }
}

void Trainer::report_skipped() {
  int64_t all = 0;
  for (const int64_t one : gather_values(context_.host, parts_.loader.skipped())) all += one;
  if (all > skipped_) context_.log.warn("{} samples could not be read so far; others took their places", all);
  skipped_ = all;
}

bool Trainer::all_agree_to_stop() {
  const int64_t mine = parts_.stop_requested && parts_.stop_requested() ? 1 : 0;
  for (const int64_t one : gather_values(context_.host, mine))
    if (one != 0) return true;
  return false;
}

}  // namespace plsc
