// plsc-train -c FILE: builds the parts and runs the trainer.
#include <cmath>
#include <filesystem>

#include "app/build.h"
#include "app/commands.h"
#include "app/exit_status.h"
#include "app/plan/headline.h"
#include "app/resume.h"
#include "app/world.h"
#include "base/clock.h"
#include "base/stop_signal.h"
#include "head/class_sampler.h"
#include "nn/module.h"
#include "optim/optimizer.h"
#include "train/run_folder.h"
#include "train/step_trace.h"
#include "train/trainer.h"

namespace plsc {
namespace {

RunMeta plan_run(const Config& config, const DataSource& source, int64_t classes, int64_t global_batch) {
  RunMeta meta;
  meta.samples = source.size();
  meta.global_batch = global_batch;
  const int64_t largest = global_batch * growth(config.train);
  if (source.size() < largest) {
    fail_hint(largest > global_batch ? "lower train.grow.factor or train.batch_size" : "lower train.batch_size",
              "{} holds {} samples, fewer than one global batch of {}", source.description(), source.size(), largest);
  }
  const StepMap map = step_map(config.train, source.size(), global_batch);
  meta.steps_per_epoch = map.steps_in(0);
  meta.total_steps = config.train.steps > 0 ? config.train.steps : map.steps(config.train.epochs);
  if (meta.total_steps == 0) {
    fail_hint("raise train.epochs, or set train.steps", "train.epochs: {} are no whole step: an epoch has {}",
              config.train.epochs, meta.steps_per_epoch);
  }
  meta.classes = classes;
  meta.embedding_size = config.model.embedding_size;
  meta.seed = config.seed;
  meta.optimizer = config.optimizer.name;
  meta.config = to_yaml(config);
  return meta;
}

/// The classes of a step's labels take part in any case.
void warn_of_small_sampling(Log& log, const SamplingConfig& sampling, int64_t classes, int64_t batch) {
  constexpr double kNearlyAll = 0.9;
  const auto all = static_cast<double>(classes);
  const double wanted = active_part(sampling, classes) * all;
  const double own = all * -std::expm1(static_cast<double>(batch) * std::log1p(-1 / all));  // of labels at random
  if (sampling.method == "full" || own < kNearlyAll * wanted) return;
  log.warn(
      "head.sampling: {:.0f} of {} classes are to take part in a step, which the labels of a batch of {} fill: few "
      "others do, or none, and {} makes no difference; a larger head.sampling.ratio or a smaller batch leaves them "
      "room",
      wanted, classes, batch, sampling.method);
}

/// ", in 8 passes, each a pipeline of 2".
std::string passes_text(const TrainConfig& train) {
  if (train.pipeline == 1) return train.accumulate > 1 ? fmt::format(", in {} passes", train.accumulate) : "";
  if (train.accumulate == 1) return fmt::format(", in a pipeline of {} micro-batches", train.pipeline);
  return fmt::format(", in {} passes, each a pipeline of {} micro-batches", train.accumulate, train.pipeline);
}

/// What comm.compress is of, and what it costs.
void tell_of_compression(Log& log, const Config& config, Backbone& backbone) {
  if (!config.comm.compress.on()) return;
  int64_t weights = 0, covered = 0, elements = 0, covered_elements = 0;
  for (const Param* p : backbone.params()) {
    if (!p->trainable()) continue;
    elements += p->value.elements();
    if (p->kind == ParamKind::weight) ++weights;
    if (!p->part.defined()) continue;
    ++covered;
    covered_elements += p->value.elements();
  }
  log.info("gradients  compressed of {} of {} trained weights, {:.1f} % of the network's elements", covered, weights,
           elements > 0 ? 100.0 * static_cast<double>(covered_elements) / static_cast<double>(elements) : 0.0);
  if (covered == 0)
    log.warn("comm.compress: no weight has comm.compress.exclude, {}, elements or more, so nothing is compressed",
             config.comm.compress.exclude);
  else if (config.train.clip_norm > 0)
    log.warn(
        "comm.compress with train.clip_norm: the norm is known when the backward pass ends, so no gradient travels "
        "beside it; with train.clip_norm: none they do");
}

/// The key for which train.deterministic: auto has no exact sums where synchronised batch norm in fp32 would bring
/// them. Empty: there is none.
std::string inexact_for(const Config& config, const Machine& machine) {
  const SyncBatchNorm& norms = config.model.sync_batch_norm;
  const bool asked = machine.backend.device->is_host() && config.train.deterministic == "auto" &&
                     machine.arithmetic.precision == "fp32" && (norms.all_ranks() || norms.group > 1);
  if (!asked || machine.arithmetic.sums_in_double) return "";
  if (!norms.all_ranks()) return fmt::format("model.sync_batch_norm: {}", norms.group);
  return config.comm.compress.on() ? "comm.compress" : "comm.dtype: " + config.comm.dtype;
}

void announce(Session& session, const Config& config, const DataSource& source, Backbone& backbone,
              const MarginHead& head, const RunMeta& meta, const std::string& planned) {
  const Context& context = session.context;
  Log& log = context.log;
  log.info("{}", meta.versions);
  log.info("device     {} x {}, {}{}", context.ranks(), context.device().description(),
           session.machine.arithmetic.precision,
           session.machine.transport == Transport::nccl     ? ", joined by NCCL"
           : session.machine.transport == Transport::staged ? ", joined through host memory by MPI"
                                                            : "");
  log.info("data       {}", source.description());
  log.info("network    {}", backbone.description());
  log.info("head       {}", head.description());
  log.info("batch      {} a step over all ranks, {} to {} a rank{}", meta.global_batch,
           meta.global_batch / context.ranks(), (meta.global_batch + context.ranks() - 1) / context.ranks(),
           passes_text(config.train));
  const GrowConfig& grow = config.train.grow;
  const int64_t largest = meta.global_batch * growth(config.train);
  if (grow.factor > 0) {
    log.info("           and grows to {}, in {} passes, from epoch {} to {}", largest,
             config.train.accumulate * grow.factor, grow.from_epoch, grow.until_epoch);
  }
  tell_of_compression(log, config, backbone);
  if (!planned.empty()) log.info("plan       {}", planned);
  warn_of_small_sampling(log, config.head.sampling, head.shard().total, largest);
  if (context.sums_in_double) {
    log.info("sums       exact: the same bits on any number of {}",
             config.model.sync_batch_norm.all_ranks() ? "ranks and threads" : "threads");
  } else if (const std::string why = inexact_for(config, session.machine); !why.empty()) {
    log.info("sums       not exact with {}: other bits on other ranks and threads", why);
  }
  const StepMap map = step_map(config.train, meta.samples, meta.global_batch);
  std::string of_epoch = fmt::format("{} an epoch", meta.steps_per_epoch);
  if (map.grows()) {
    const int64_t last = map.at(meta.total_steps - 1).epoch;
    of_epoch = fmt::format("{} in the first epoch, {} in the last", meta.steps_per_epoch, map.steps_in(last));
    if (const int64_t reached = map.at(meta.total_steps - 1).batch; reached < largest)
      log.warn("train.grow: the run ends before epoch {}, with a batch of {}", grow.until_epoch, reached);
  }
  log.info("run        {} steps, {}, into {}", meta.total_steps, of_epoch, config.output);
}

LoaderOptions loader_options(const Config& config, const World& world, const RunMeta& meta, int64_t first_step) {
  LoaderOptions options;
  options.data = config.data;
  options.seed = config.seed;
  options.rank = world.rank();
  options.ranks = world.size();
  options.local_ranks = world.local_size();
  options.global_batch = meta.global_batch;
  options.micro_batches = config.train.accumulate;
  options.pipeline = config.train.pipeline;
  options.grow = config.train.grow;
  options.cache_key = std::filesystem::absolute(config.output).lexically_normal().string();
  options.first_step = first_step;
  options.last_step = meta.total_steps;
  return options;
}

}  // namespace

int train_command(const CommandLine& line, const LoadedConfig& loaded, World& world, const StopSignal& stop) {
  Config config = loaded.config;
  Session session(config, world);
  Context& context = session.context;
  Log& log = context.log;
  group_norms(session, config, world);
  group_nodes(session, config, world);
  RunFolder folder(context, config);
  require_trace_file(context, config.log);

  const auto source = [&] {
    try {
      return open_source(config.data, config.seed, &log);
    } catch (const Error& e) {
      throw Error(std::string("data.train: ") + e.what());
    }
  }();
  const int64_t classes = decide_classes(context, config, *source);
  require_sampling(context, config, classes, room_of(session, world));
  require_tables(context, config, classes, world.local_size());
  RunMeta meta = plan_run(config, *source, classes, decide_global_batch(config, world.size()));
  meta.ranks = world.size();
  meta.device = context.device().description();
  meta.versions = versions_text(session, world);
  meta.class_map = class_map_key(config.head);

  const std::string planned = plan::headline_of(session, world, config, classes);  // before any memory is taken
  Model model;
  const auto renew = [&] {
    model = {};  // first, for its memory
    model.backbone = make_backbone(context, config.model, config.data.image_size, config.data.channels);
    model.backbone->freeze(config.init.freeze);
    model.backbone->require_batch(context, meta.global_batch / config.train.micro_batches() / world.size());
    model.head = make_margin_head(context, config.head, classes, model.backbone->embedding_size(),
                                  head_update(config.optimizer));
    compress_gradients(context, model.backbone->params(), config.comm.compress);
  };
  renew();
  meta.model = model.backbone->description();
  const auto evaluator =
      config.eval.sets.empty() ? nullptr : make_evaluator(context, config.eval, config.data, source->class_names());
  if (!config.checkpoint.best_set.empty()) {
    evaluator->require_metric(config.checkpoint.best_set, config.checkpoint.best_metric);
  }
  const int64_t first_step =
      start_or_resume(context, line.resume, config, {model, renew, source->class_names(), folder}, meta);
  folder.write_config(context, config);  // what is there stays as it was until the run is accepted
  folder.write_versions(context, meta.versions, world.hosts());
  folder.write_class_names(context, source->class_names());
  announce(session, config, *source, *model.backbone, *model.head, meta, planned);
  if (first_step >= meta.total_steps) {
    log.info("training is already complete: step {} of {} is in {}/checkpoints", first_step, meta.total_steps,
             config.output);
    return 0;
  }
  const auto loader = make_loader(*source, loader_options(config, world, meta, first_step), log);
  // Before this a signal ends every rank at once. The ranks change together, or one that is a moment late would end
  // while the others wait for it to save.
  context.host.barrier("the start of training");
  stop.take_requests();
  Trainer trainer(context, config,
                  {*model.backbone, *model.head, *loader, evaluator.get(), source->class_names(),
                   Schedule(config.schedule, meta.total_steps, loader->steps(), config.train.accumulate),
                   [&] { return stop.requested(); }, [&](int64_t step, const char* phase) { world.note(step, phase); }},
                  meta);
  const Stopwatch watch;
  const TrainEnd end = trainer.run(first_step);
  if (const DeviceMemory memory = context.device().memory(); memory.peak > 0) {
    log.info("memory     at most {} of tensors and workspaces on rank 0, {} with what is kept for reuse{}",
             human_bytes(static_cast<double>(memory.peak)), human_bytes(static_cast<double>(memory.most)),
             config.head.store.tier == "host" ? "; class centres in host memory beside it" : "");
  }
  log.info("{} after {}", end == TrainEnd::complete ? "complete" : "stopped", human_duration(watch.seconds()));
  return end == TrainEnd::complete ? 0 : kExitInterrupted;
}

}  // namespace plsc
