#include "config/validate.h"

#include <algorithm>

#include "base/error.h"
#include "config/nearest.h"
#include "config/settle.h"

namespace plsc {
namespace {

void check_data(const DataConfig& data, const Origins& o) {
  if (data.train.empty()) {
    fail_hint("data: {train: PATH} names a .rec file, an image folder or a list file", "{} is missing, expected a path",
              o.at("data.train"));
  }
  const auto is_synthetic = [](const std::string& path) { return path == "synthetic"; };
  if (data.train.size() > 1 && std::any_of(data.train.begin(), data.train.end(), is_synthetic))
    fail("{}: found synthetic beside other data, expected it alone", o.at("data.train"));
  if (data.channels == 2) fail("{}: found 2, expected 1 (grey) or 3 (RGB)", o.at("data.channels"));
  for (const auto& [key, size] :
       {std::pair("data.normalize.mean", data.mean.size()), std::pair("data.normalize.std", data.std.size())}) {
    if (size != 1 && size != static_cast<size_t>(data.channels))
      fail("{}: found {} values, expected 1 or {}: data.channels is {}", o.at(key), size, data.channels, data.channels);
  }
}

/// stem, layer1, layer2, ...: of the backbone, from the images up. Without the tail.
std::vector<std::string> parts_below_tail(const Config& c) {
  std::vector<std::string> parts{"stem"};
  for (size_t i = 1; i <= c.model.backbone.blocks.size(); ++i) parts.push_back(fmt::format("layer{}", i));
  return parts;
}

void check_model(const Config& c, const Origins& o) {
  // Ranks of the command line may be those of an evaluation, which has no groups; a training looks again.
  const int64_t group = c.model.sync_batch_norm.group;
  if (group > 0 && c.ranks > 0 && c.ranks % group != 0 && !o.on_command_line("ranks"))
    fail("{}: found {}, expected a number that divides ranks, {}, or true or false", o.at("model.sync_batch_norm"),
         group, c.ranks);
  std::vector<std::string> known = parts_below_tail(c);
  const std::string last = known.back();
  known.emplace_back("all");
  for (const std::string& name : c.model.recompute) {
    if (name == "tail")
      fail(
          "{}: found 'tail', expected stem, layer1 to {} or all: a backward pass begins in the tail, where nothing "
          "would be saved",
          o.at("model.recompute"), last);
    if (std::find(known.begin(), known.end(), name) == known.end())
      fail("{}: found '{}', expected stem, layer1 to {} or all{}", o.at("model.recompute"), name, last,
           did_you_mean(name, known));
    if (name == "all" && c.model.recompute.size() > 1)
      fail("{}: found all beside parts, expected it alone", o.at("model.recompute"));
  }
}

void check_init(const Config& c, const Origins& o) {
  if (c.init.from.empty() && c.init.head == "true")
    fail("{}: found true without init.from, expected weights to take the class centres from", o.at("init.head"));
  std::vector<std::string> parts = parts_below_tail(c);
  const std::string last = parts.back();
  parts.emplace_back("tail");
  for (const std::string& name : c.init.freeze) {
    if (std::find(parts.begin(), parts.end(), name) == parts.end())
      fail("{}: found '{}', expected stem, layer1 to {} or tail{}", o.at("init.freeze"), name, last,
           did_you_mean(name, parts));
  }
}

template <class T>
void check_rising(const std::vector<T>& values, const std::string& where) {
  for (size_t i = 1; i < values.size(); ++i)
    if (values[i] <= values[i - 1])
      fail("{}: found {} behind {}, expected rising values", where, values[i], values[i - 1]);
}

/// What belongs to heads of other kinds stays as it is by default.
void check_head_kind(const Config& c, const Origins& o) {
  const HeadConfig& head = c.head;
  const HeadConfig unset;
  const auto refuse = [&](bool given, const char* key, const char* kind, const char* why) {
    if (given)
      fail("{}: given with head.kind {}, expected head.kind {}, or the key left out: {}", o.at(key), head.kind, kind,
           why);
  };
  const bool margin = !(head.margin == unset.margin), gradient = head.gradient != unset.gradient,
             termination = head.termination != unset.termination;
  if (head.kind == "margin") {
    refuse(termination, "head.termination", "d_softmax",
           "with a margin a target is measured against the other classes");
    return;
  }
  if (head.kind == "d_softmax") {
    constexpr const char* kNoMargin = "D-Softmax has no margin, a target is measured against head.termination";
    refuse(margin, "head.margin", "margin", kNoMargin);
    refuse(gradient, "head.gradient", "margin", kNoMargin);
    return;
  }
  constexpr const char* kNoCosines = "a linear head has no cosines";
  refuse(margin, "head.margin", "margin", kNoCosines);
  refuse(head.scale != unset.scale, "head.scale", "margin or d_softmax", kNoCosines);
  refuse(termination, "head.termination", "d_softmax", kNoCosines);
  refuse(gradient, "head.gradient", "margin", kNoCosines);
  refuse(head.interclass_filter != unset.interclass_filter, "head.interclass_filter", "margin or d_softmax",
         kNoCosines);
  if (!c.optimizer.decay_norms)
    fail(
        "{}: found false with head.kind linear, expected true: the bias is a column of a class's row, and decays as "
        "the row does",
        o.at("optimizer.decay_norms"));
}

/// Of the decay in a peer's sequence.
double compat_power(const std::string& compat) { return compat == "insightface_head" ? 1 : 2; }

void complete(Config& c, const Origins& o) {
  settle_sampling(c.head.sampling, o);
  settle_optimizer(c, o);
  settle_schedule(c.schedule, o);
  settle_switches(c, o);
  if (c.schedule.compat != "none" && !o.given.contains("schedule.power"))
    c.schedule.power = compat_power(c.schedule.compat);
  if (!c.model.dropout) c.model.dropout = default_dropout(c.model.backbone);
  RebuildConfig& rebuild = c.head.sampling.rebuild;
  if (!rebuild.every_epochs) rebuild.every_epochs = rebuild.probe_recall ? 0 : 1;
  if (c.train.batch_size == 0 && c.train.batch_per_rank == 0) c.train.batch_per_rank = 128;
  if (c.checkpoint.best_set.empty() || !c.checkpoint.best_metric.empty()) return;
  for (const EvalSetConfig& set : c.eval.sets)
    if (set.name == c.checkpoint.best_set) c.checkpoint.best_metric = set.kind == "verification" ? "accuracy" : "top1";
}

void check_sampling(const HeadConfig& head, const Origins& o) {
  const SamplingConfig& s = head.sampling;
  if (s.active > 0 && o.on_command_line("head.sampling.ratio") && !o.on_command_line("head.sampling.active"))
    fail("{}: given beside {}, which counts, expected one of the two: -o head.sampling.active=auto",
         o.at("head.sampling.ratio"), o.at("head.sampling.active"));
  if (s.method == "knn" && head.kind == "linear")
    fail(
        "{}: found knn with head.kind linear, expected full or uniform: near is what has a large cosine, and a linear "
        "head's logits depend on lengths and biases as well",
        o.at("head.sampling.method"));
}

void check_optimizer(const Config& config, const Origins& origins) {
  const OptimizerConfig& o = config.optimizer;
  if (o.nesterov && o.momentum == 0)
    fail("{}: found true with optimizer.momentum 0, expected momentum above 0", origins.at("optimizer.nesterov"));
  if (!o.decay_norms && o.norms.weight_decay.value_or(0) != 0)
    fail("{}: found {} with optimizer.decay_norms false, which is a weight_decay of 0, expected one of the two",
         origins.at("optimizer.norms.weight_decay"), *o.norms.weight_decay);
  const std::string& head = o.head.name == "auto" ? o.name : o.head.name;
  if (head == "lamb" && config.head.sampling.method != "full" && config.head.update == "dense")
    fail(
        "{}: found dense with class centres that are updated by lamb and sampled ({}), expected head.update lazy: a "
        "step of lamb without a gradient depends on the length that a centre has in that step, so that those left out "
        "cannot be caught up in one",
        origins.at("head.update"), origins.at(o.head.name == "auto" ? "optimizer.name" : "optimizer.head.name"));
}

/// A peer's sequence leaves no choice of what it fixes.
void check_compat(const ScheduleConfig& s, const Origins& o) {
  if (s.compat == "none") return;
  const bool plsc = s.compat == "plsc";
  if (plsc ? s.name == "constant" || s.name == "one_cycle" : s.name != "poly")
    fail("{}: found {} with schedule.compat {}, expected {}", o.at("schedule.name"), s.name, s.compat,
         plsc ? "poly, step or cosine" : "poly");
  const double power = compat_power(s.compat);
  if (s.name == "poly" && s.power != power)
    fail("{}: found {} with schedule.compat {}, expected {}, or the key left out", o.at("schedule.power"), s.power,
         s.compat, power);
  if (s.name == "poly" && s.final_lr != 0)
    fail("{}: found {} with schedule.compat {}, expected 0", o.at("schedule.final_lr"), s.final_lr, s.compat);
  if (!plsc && s.start_lr.value_or(0) != 0)
    fail("{}: found {} with schedule.compat {}, expected auto or 0", o.at("schedule.start_lr"), *s.start_lr, s.compat);
}

void check_schedule(const ScheduleConfig& s, const Origins& o) {
  check_compat(s, o);
  if (s.warmup_steps > 0 && s.warmup_epochs.value_or(0) > 0)
    fail("{}: given beside {}, expected one of the two", o.at("schedule.warmup_epochs"), o.at("schedule.warmup_steps"));
  const bool milestones = !s.milestones.empty(), steps = !s.milestone_steps.empty();
  if (milestones && steps)
    fail("{}: given beside {}, expected one of the two", o.at("schedule.milestone_steps"), o.at("schedule.milestones"));
  if (!milestones && !steps && s.name == "step")
    fail("{}: found step without schedule.milestones, expected milestones such as [8, 14] (epochs)",
         o.at("schedule.name"));
  check_rising(s.milestones, o.at("schedule.milestones"));
  check_rising(s.milestone_steps, o.at("schedule.milestone_steps"));
  if (s.start_lr.value_or(0) > s.base_lr)
    fail("{}: found {}, expected at most schedule.base_lr, {}", o.at("schedule.start_lr"), *s.start_lr, s.base_lr);
  if (s.final_lr > s.base_lr)
    fail("{}: found {}, expected at most schedule.base_lr, {}", o.at("schedule.final_lr"), s.final_lr, s.base_lr);
}

void check_micro_batches(const TrainConfig& t, const Origins& o) {
  const auto check = [&](const char* key, int64_t batch) {
    if (batch == 0) return;
    if (batch < t.accumulate)
      fail("{}: found {}, expected at most {}, {}", o.at("train.accumulate"), t.accumulate, key, batch);
    if (batch < t.micro_batches())
      fail("{}: found {}{}, expected no more micro-batches than {}, {}", o.at("train.pipeline"), t.pipeline,
           t.accumulate > 1 ? fmt::format(" with train.accumulate {}", t.accumulate) : "", key, batch);
  };
  check("train.batch_size", t.batch_size);
  check("train.batch_per_rank", t.batch_per_rank);
}

void check_growth(const Config& c, const Origins& o) {
  const TrainConfig& t = c.train;
  const GrowConfig& grow = t.grow;
  if (grow.factor == 0) return;
  if (grow.until_epoch == 0)
    fail(
        "{}: found {} without train.grow.until_epoch, expected such as train: {{grow: {{factor: 16, from_epoch: 5, "
        "until_epoch: 8}}}}",
        o.at("train.grow.factor"), grow.factor);
  if (grow.until_epoch <= grow.from_epoch)
    fail("{}: found {}, expected more than train.grow.from_epoch, {}", o.at("train.grow.until_epoch"), grow.until_epoch,
         grow.from_epoch);
  // A pass of a batch that grows is always of the same size.
  for (const auto& [key, batch] :
       {std::pair("train.batch_size", t.batch_size), std::pair("train.batch_per_rank", t.batch_per_rank)})
    if (batch % t.accumulate != 0)
      fail("{}: found {}, expected a multiple of train.accumulate, {}: the batch grows by whole passes", o.at(key),
           batch, t.accumulate);
  if (c.schedule.compat != "none")
    fail("{}: found {} with schedule.compat {}, expected none: that program's batch does not grow",
         o.at("train.grow.factor"), grow.factor, c.schedule.compat);
}

void check_train(const Config& c, const Origins& o) {
  const TrainConfig& t = c.train;
  if (t.batch_size > 0 && t.batch_per_rank > 0)
    fail("{}: given beside {}, expected one of the two", o.at("train.batch_per_rank"), o.at("train.batch_size"));
  if (t.batch_size > 0 && t.batch_size < c.ranks)
    fail("{}: found {}, expected at least one image a rank: ranks is {}", o.at("train.batch_size"), t.batch_size,
         c.ranks);
  check_micro_batches(t, o);
  check_growth(c, o);
  if (c.comm.bucket < 1) fail("{}: found 0, expected a size such as 8MiB", o.at("comm.bucket"));
}

void check_clipping(const TrainConfig& t, const Origins& o) {
  if (t.clip_head && t.clip_norm == 0)
    fail("{}: found true with train.clip_norm none, expected a number there", o.at("train.clip_head"));
}

void check_average(const Config& c, const Origins& o) {
  if (c.train.ema.decay > 0) return;
  if (c.eval.weights == "ema")
    fail("{}: found ema without train.ema.decay, expected such as train: {{ema: {{decay: .999}}}}",
         o.at("eval.weights"));
}

void check_compress(const Config& c, const Origins& o) {
  const CompressConfig& k = c.comm.compress;
  if (!k.on()) return;
  const std::string at = o.at("comm.compress.method");
  if (c.optimizer.name != "sgd" && c.optimizer.name != "lars")
    fail(
        "{}: found topk with optimizer.name {}, expected sgd or lars: what accumulates unsent are steps of their "
        "momentum, and moments of gradients that come late are those of no gradient",
        at, c.optimizer.name);
  if (c.train.clip_head)
    fail(
        "{}: found topk with train.clip_head true, expected false: the backbone's gradients are clipped on each rank "
        "by itself, where the head's are not known",
        at);
  if (c.device == "cpu" && c.train.deterministic == "true")
    fail(
        "{}: found topk with train.deterministic true, expected auto or false: which elements are sent depends on how "
        "samples are split over ranks, so an exact sum of them would be the same on no other number of ranks",
        at);
}

/// What holds whichever GPUs there are; the rest is decided where the device is known (app/devices.h).
void check_device(const Config& c, const Origins& o) {
  for (size_t i = 0; i < c.gpus.size(); ++i) {
    if (std::find(c.gpus.begin(), c.gpus.begin() + static_cast<std::ptrdiff_t>(i), c.gpus[i]) !=
        c.gpus.begin() + static_cast<std::ptrdiff_t>(i))
      fail("{}: found {} twice, expected each GPU once", o.at("gpus"), c.gpus[i]);
  }
  if (c.device != "cpu") return;
  const std::string& precision = c.train.precision;
  if (!c.gpus.empty()) fail("{}: found GPUs with device cpu, expected device auto or cuda", o.at("gpus"));
  if (c.comm.backend == "nccl")
    fail("{}: found nccl with device cpu, expected mpi or auto: NCCL joins GPUs", o.at("comm.backend"));
  if (c.train.graphs == "true")
    fail("{}: found true with device cpu, expected auto or false: a CPU has none", o.at("train.graphs"));
  if (precision == "tf32" || precision == "fp16")
    fail("{}: found {} with device cpu, expected fp32, bf16 or auto", o.at("train.precision"), precision);
  if (c.train.deterministic == "true" && precision == "bf16")
    fail("{}: found true with train.precision bf16, expected fp32: exact sums are of fp32 products",
         o.at("train.deterministic"));
  if (c.train.deterministic == "true" && c.comm.dtype == "bf16")
    fail("{}: found bf16 with train.deterministic true, expected fp32: on a CPU that means exact sums",
         o.at("comm.dtype"));
}

void check_best(const Config& c, const Origins& o) {
  const CheckpointConfig& k = c.checkpoint;
  if (k.best_set.empty()) {
    if (!k.best_metric.empty())
      fail("{}: given without checkpoint.best.set, expected the name of a set", o.at("checkpoint.best.metric"));
    return;
  }
  std::vector<std::string> names;
  const EvalSetConfig* best = nullptr;
  for (const EvalSetConfig& set : c.eval.sets) {
    names.push_back(set.name);
    if (set.name == k.best_set) best = &set;
  }
  if (best == nullptr) {
    std::string all;
    for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
    fail("{}: found '{}', expected the name of a set of eval.sets ({}){}", o.at("checkpoint.best.set"), k.best_set,
         all.empty() ? "it has none" : all, did_you_mean(k.best_set, names));
  }
  const bool verification = best->kind == "verification";
  const std::vector<std::string> metrics = verification ? std::vector<std::string>{"accuracy", "auc", "tar_at_far.1e-3"}
                                                        : std::vector<std::string>{"top1", "top5"};
  const bool far = verification && k.best_metric.rfind("tar_at_far.1e-", 0) == 0;
  if (!far && std::find(metrics.begin(), metrics.end(), k.best_metric) == metrics.end())
    fail("{}: found '{}', expected one that a {} set has, such as {}{}", o.at("checkpoint.best.metric"), k.best_metric,
         best->kind, metrics[0], did_you_mean(k.best_metric, metrics));
  if (c.eval.every_steps == 0 && c.eval.every_epochs == 0 && !c.eval.at_end)
    fail("{}: found '{}', but nothing is ever evaluated: eval has neither every_steps nor every_epochs nor at_end",
         o.at("checkpoint.best.set"), k.best_set);
}

}  // namespace

std::string Origins::at(const std::string& key) const {
  const auto found = given.find(key);
  return fmt::format("{}: {}", found == given.end() ? file : found->second, key);
}

bool Origins::on_command_line(const std::string& key) const {
  const auto found = given.find(key);
  return found != given.end() && found->second == "-o";
}

void complete_and_validate(Config& config, const Origins& origins) {
  complete(config, origins);
  check_data(config.data, origins);
  check_model(config, origins);
  check_init(config, origins);
  check_sampling(config.head, origins);
  check_head_kind(config, origins);
  check_optimizer(config, origins);
  check_schedule(config.schedule, origins);
  check_train(config, origins);
  check_clipping(config.train, origins);
  check_average(config, origins);
  check_compress(config, origins);
  check_device(config, origins);
  check_best(config, origins);
}

}  // namespace plsc
