// What is printed reads back to the same configuration, whichever field differs from its default.
#include <functional>

#include "config/config.h"
#include "support/catch.h"

using namespace plsc;

namespace {

using Change = std::function<void(Config&)>;

/// One change a field. The structured bindings name every field of every struct: a new field does not compile here
/// until it is added, so none can be forgotten by the table of keys.
std::vector<Change> data_changes() {
  const Config all;
  [[maybe_unused]] const auto& [train, synthetic, image_size, channels, mean, std, resize, augment, workers, cache,
                                cache_limit, on_error] = all.data;
  [[maybe_unused]] const auto& [classes, images] = all.data.synthetic;
  [[maybe_unused]] const auto& [kind, probability] = all.data.augment[0];
  return {
      [](Config& c) {
        c.data.train = {"a b", "c: d", "#e", "\xc3\xa9\n\t\"\\'", "none", "auto", "12", "null", "- x", "*y"};
      },
      [](Config& c) { c.data.train = {"with, comma] and }"}; },
      [](Config& c) { c.data.synthetic.classes = 17; },
      [](Config& c) { c.data.synthetic.images = 171; },
      [](Config& c) {
        c.data.image_size = {96, 128};
      },
      [](Config& c) { c.data.channels = 1; },
      [](Config& c) {
        c.data.mean = {1.5, 2, 1e-7};
      },
      [](Config& c) { c.data.std = {0.1}; },
      [](Config& c) { c.data.resize = "fit_crop"; },
      [](Config& c) { c.data.augment = {}; },
      [](Config& c) {
        c.data.augment = {{"flip", 0.3}, {"flip", 1.0 / 3}};
      },
      [](Config& c) { c.data.workers = 5; },
      [](Config& c) { c.data.cache = "decoded"; },
      [](Config& c) { c.data.cache_limit = int64_t{3} << 30; },
      [](Config& c) { c.data.cache_limit = 1234567; },
      [](Config& c) { c.data.on_error = "skip"; },
  };
}

std::vector<Change> model_changes() {
  const Config all;
  [[maybe_unused]] const auto& [backbone, embedding_size, dropout, sync_batch_norm, recompute] = all.model;
  [[maybe_unused]] const auto& [sync, group] = all.model.sync_batch_norm;
  [[maybe_unused]] const auto& [name, kind, stem, widths, blocks, strides, bottleneck] = all.model.backbone;
  [[maybe_unused]] const auto& [from, head, freeze] = all.init;
  const auto own = [](Config& c) -> BackboneConfig& {
    c.model.backbone.name.clear();
    return c.model.backbone;
  };
  return {
      [](Config& c) { c.model.backbone = named_backbone("plsc_resnet101"); },
      [=](Config& c) { own(c).kind = "plsc"; },
      [=](Config& c) { own(c).kind = "resnet"; },
      [=](Config& c) { own(c).stem = 9; },
      [=](Config& c) {
        own(c).widths = {1, 2, 3, 4};
      },
      [=](Config& c) {
        own(c).blocks = {9, 8, 7, 6};
      },
      [=](Config& c) {
        own(c).strides = {1, 2, 1, 3};
      },
      [=](Config& c) {
        own(c).kind = "resnet";
        own(c).bottleneck = true;
      },
      [](Config& c) { c.model.embedding_size = 77; },
      [](Config& c) { c.model.dropout = 0.4; },
      [](Config& c) { c.model.sync_batch_norm.on = true; },
      [](Config& c) {
        c.model.sync_batch_norm = {true, 4};
      },
      [](Config& c) { c.model.recompute = {"all"}; },
      [](Config& c) {
        c.model.recompute = {"stem", "layer4"};
      },
      [](Config& c) { c.init.from = "runs/x/checkpoints/step_1"; },
      [](Config& c) {
        c.init.from = "none";
        c.init.head = "true";
      },
      [](Config& c) { c.init.head = "false"; },
      [](Config& c) {
        c.init.freeze = {"stem", "layer2"};
      },
  };
}

std::vector<Change> head_changes() {
  const Config all;
  [[maybe_unused]] const auto& [kind, classes, margin, scale, termination, gradient, sampling, update, filter, init_std,
                                store, class_map] = all.head;
  [[maybe_unused]] const auto& [name, m1, m2, m3] = all.head.margin;
  [[maybe_unused]] const auto& [method, ratio, active, neighbours, uniform_share, rebuild, scoring] = all.head.sampling;
  [[maybe_unused]] const auto& [every_epochs, probe_recall] = all.head.sampling.rebuild;
  [[maybe_unused]] const auto& [tier, dtype, store_momentum] = all.head.store;
  const auto knn = [](Config& c) -> SamplingConfig& {
    c.head.sampling.method = "knn";
    return c.head.sampling;
  };
  return {
      [](Config& c) { c.head.kind = "linear"; },
      [](Config& c) { c.head.kind = "d_softmax"; },
      [](Config& c) {
        c.head.kind = "d_softmax";
        c.head.termination = -0.25;
      },
      [](Config& c) { c.head.classes = int64_t{1} << 40; },
      [](Config& c) { c.head.class_map = "renamed: 1.tsv"; },
      [](Config& c) {
        c.head.margin = {"cosface", 1, 0, 0.4};
      },
      [](Config& c) {
        c.head.margin = {"none", 1, 0, 0};
      },
      [](Config& c) {
        c.head.margin = {"custom", 1.25, 0, 0};
      },
      [](Config& c) {
        c.head.margin = {"custom", 1, 0.123456789012345678, 0};
      },
      [](Config& c) {
        c.head.margin = {"custom", 1, 0, 3};
      },
      [](Config& c) { c.head.scale = 30.5; },
      [](Config& c) { c.head.gradient = "straight_through"; },
      [](Config& c) { c.head.sampling.method = "uniform"; },
      [](Config& c) { c.head.sampling.method = "knn"; },
      [](Config& c) {
        c.head.sampling.method = "uniform";
        c.head.sampling.ratio = 1e-3;
      },
      [](Config& c) {
        c.head.sampling.method = "uniform";
        c.head.sampling.active = 777;
      },
      [=](Config& c) { knn(c).neighbours = 3; },
      [=](Config& c) { knn(c).uniform_share = 0; },
      [=](Config& c) { knn(c).rebuild.every_epochs = 0; },
      [=](Config& c) { knn(c).rebuild.every_epochs = 0.25; },
      [=](Config& c) { knn(c).rebuild.probe_recall = 0.9; },
      [=](Config& c) { knn(c).scoring = "bf16"; },
      [](Config& c) { c.head.update = "lazy"; },
      [](Config& c) { c.head.interclass_filter = 0.4; },
      [](Config& c) { c.head.interclass_filter = 0; },
      [](Config& c) { c.head.init_std = 0; },
      [](Config& c) { c.head.init_std = 0.03; },
      [](Config& c) { c.head.store.tier = "host"; },
      [](Config& c) { c.head.store.dtype = "bf16"; },
      [](Config& c) { c.head.store.momentum = "bf16"; },
  };
}

std::vector<Change> optimisation_changes() {
  const Config all;
  [[maybe_unused]] const auto& [o_name, momentum, nesterov, weight_decay, decay_norms, beta1, beta2, epsilon, trust,
                                head, norms] = all.optimizer;
  [[maybe_unused]] const auto& [h_name, h_lr, h_decay] = all.optimizer.head;
  [[maybe_unused]] const auto& [n_lr, n_decay] = all.optimizer.norms;
  [[maybe_unused]] const auto& [s_name, base_lr, start_lr, warmup_steps, warmup_epochs, power, milestones,
                                milestone_steps, factor, final_lr, compat] = all.schedule;
  [[maybe_unused]] const auto& [batch_size, batch_per_rank, epochs, steps, precision, clip_norm, clip_head, ema,
                                accumulate, pipeline, grow, deterministic, graphs, threads] = all.train;
  [[maybe_unused]] const auto& [grow_factor, from_epoch, until_epoch] = all.train.grow;
  [[maybe_unused]] const auto& [ema_decay, ema_every] = all.train.ema;
  const auto by = [](const char* name) {
    return [name](Config& c) -> OptimizerConfig& {
      c.optimizer.name = name;
      c.optimizer.head.name = "sgd";
      return c.optimizer;
    };
  };
  return {
      [=](Config& c) { by("adamw")(c); },
      [=](Config& c) { by("lars")(c).trust = 0.02; },
      [=](Config& c) { by("lamb")(c).epsilon = 1e-6; },
      [=](Config& c) { by("adamw")(c).beta1 = 0; },
      [=](Config& c) { by("adamw")(c).beta2 = 0.98; },
      [](Config& c) { c.optimizer.head.name = "sgd"; },
      [](Config& c) { c.optimizer.head.lr = 10; },
      [](Config& c) { c.optimizer.head.weight_decay = 0; },
      [](Config& c) { c.optimizer.norms.lr = 0.5; },
      [](Config& c) { c.optimizer.norms.weight_decay = 1e-5; },
      [](Config& c) { c.optimizer.norms.weight_decay = 0; },
      [](Config& c) { c.optimizer.momentum = 0; },
      [](Config& c) { c.optimizer.nesterov = true; },
      [](Config& c) { c.optimizer.weight_decay = 1e-300; },
      [](Config& c) { c.optimizer.decay_norms = false; },
      [](Config& c) { c.schedule.name = "cosine"; },
      [](Config& c) { c.schedule.base_lr = 0.3; },
      [](Config& c) { c.schedule.start_lr = 0; },
      [](Config& c) { c.schedule.start_lr = 0.05; },
      [](Config& c) { c.schedule.warmup_steps = 150; },
      [](Config& c) { c.schedule.warmup_epochs = 1.5; },
      [](Config& c) { c.schedule.power = 1; },
      [](Config& c) {
        c.schedule.name = "step";
        c.schedule.milestones = {1, 2.5};
      },
      [](Config& c) {
        c.schedule.name = "step";
        c.schedule.milestone_steps = {100, 200};
      },
      [](Config& c) {
        c.schedule.name = "step";
        c.schedule.milestones = {3};
        c.schedule.factor = 0.5;
      },
      [](Config& c) { c.schedule.final_lr = 1e-5; },
      [](Config& c) { c.schedule.compat = "insightface_2022"; },
      [](Config& c) {
        c.schedule.compat = "insightface_head";
        c.schedule.power = 1;
      },
      [](Config& c) { c.schedule.compat = "plsc"; },
      [](Config& c) {
        c.train.batch_size = 1000;
        c.train.batch_per_rank = 0;
      },
      [](Config& c) { c.train.batch_per_rank = 3; },
      [](Config& c) { c.train.epochs = 0.25; },
      [](Config& c) { c.train.steps = 12345; },
      [](Config& c) { c.train.precision = "bf16"; },
      [](Config& c) { c.train.clip_norm = 0; },
      [](Config& c) { c.train.clip_norm = 1.5; },
      [](Config& c) { c.train.clip_head = true; },
      [](Config& c) { c.train.ema.decay = 0.999; },
      [](Config& c) {
        c.train.ema = {0.5, 7};
      },
      [](Config& c) { c.train.accumulate = 4; },
      [](Config& c) { c.train.pipeline = 2; },
      [](Config& c) {
        c.train.grow = {4, 0, 0.5};
      },
      [](Config& c) {
        c.train.grow = {3, 1.25, 7};
      },
      [](Config& c) { c.train.precision = "auto"; },
      [](Config& c) { c.train.deterministic = "true"; },
      [](Config& c) { c.train.graphs = "false"; },
      [](Config& c) { c.train.threads = 3; },
  };
}

std::vector<Change> run_changes() {
  const Config all;
  [[maybe_unused]] const auto& [output, seed, device, gpus, ranks, data, model, init, head, optimizer, schedule, train,
                                checkpoint, eval, log, comm] = all;
  [[maybe_unused]] const auto& [c_steps, c_epochs, c_at_end, keep, keep_every, best_set, best_metric] = checkpoint;
  [[maybe_unused]] const auto& [e_steps, e_epochs, e_at_end, batch_size, flip_sum, weights, sets] = eval;
  const EvalSetConfig sample;
  [[maybe_unused]] const auto& [name, kind, bin, folder, pairs, set_data] = sample;
  [[maybe_unused]] const auto& [every_steps, trace, trace_first, trace_steps] = log;
  [[maybe_unused]] const auto& [backend, timeout, bucket, dtype, compress] = comm;
  [[maybe_unused]] const auto& [method, ratio, warmup_epochs, exclude, intra_node] = compress;
  const auto topk = [](Config& c) -> CompressConfig& {
    c.comm.compress.method = "topk";
    return c.comm.compress;
  };
  return {
      [](Config& c) { c.output = "~/my runs/{x}"; },
      [](Config& c) { c.seed = 18446744073709551615ULL; },
      [](Config& c) { c.seed = 0; },
      [](Config& c) { c.device = "cuda"; },
      [](Config& c) { c.gpus = {3}; },
      [](Config& c) {
        c.gpus = {1, 0};
      },
      [](Config& c) { c.ranks = 12; },
      [](Config& c) { c.checkpoint.every_steps = 11; },
      [](Config& c) { c.checkpoint.every_epochs = 0.5; },
      [](Config& c) { c.checkpoint.at_end = false; },
      [](Config& c) { c.checkpoint.keep = 1; },
      [](Config& c) { c.checkpoint.keep_every = 1000; },
      [](Config& c) {
        c.eval.sets = {{"a", "verification", "a.bin", "", "", ""}};
        c.checkpoint.best_set = "a";
        c.checkpoint.best_metric = "auc";
      },
      [](Config& c) { c.eval.every_steps = 21; },
      [](Config& c) { c.eval.every_epochs = 2; },
      [](Config& c) { c.eval.at_end = false; },
      [](Config& c) { c.eval.batch_size = 3; },
      [](Config& c) { c.eval.flip_sum = false; },
      [](Config& c) {
        c.train.ema.decay = 0.9;
        c.eval.weights = "ema";
      },
      [](Config& c) {
        c.eval.sets = {{"a, b", "verification", "x: y.bin", "", "", ""},
                       {"none", "verification", "", "d", "p q.txt", ""},
                       {"c", "classification", "", "", "", "t.rec"}};
      },
      [](Config& c) { c.log.every_steps = 1; },
      [](Config& c) { c.comm.backend = "mpi"; },
      [](Config& c) { c.comm.timeout = 0.5; },
      [](Config& c) { c.comm.timeout = 61; },
      [](Config& c) { c.comm.timeout = 7200; },
      [](Config& c) { c.comm.bucket = 25 << 20; },
      [](Config& c) { c.comm.bucket = 1; },
      [](Config& c) { c.comm.dtype = "bf16"; },
      [=](Config& c) { topk(c); },
      [=](Config& c) { topk(c).ratio = 0.01; },
      [=](Config& c) { topk(c).warmup_epochs = 0; },
      [=](Config& c) { topk(c).exclude = 1; },
      [=](Config& c) { topk(c).intra_node = "none"; },
      [](Config& c) { c.log.trace = "trace.json"; },
      [](Config& c) { c.log.trace_first = 0; },
      [](Config& c) { c.log.trace_steps = 100; },
  };
}

}  // namespace

TEST_CASE("every field survives printing and reading") {
  const Config base = parse_config("data: {train: a.rec}", "f").config;
  CHECK(parse_config(to_yaml(base), "again").config == base);
  int count = 0;
  for (const auto& changes : {data_changes(), model_changes(), head_changes(), optimisation_changes(), run_changes()}) {
    for (const Change& change : changes) {
      Config changed = base;
      change(changed);
      const std::string yaml = to_yaml(changed);
      INFO("change " << count++ << "\n" << yaml);
      CHECK_FALSE(changed == base);
      CHECK(parse_config(yaml, "again").config == changed);
    }
  }
}

TEST_CASE("the values that are listed are those that are printed") {
  const LoadedConfig loaded = parse_config("data: {train: a.rec}\ntrain: {batch_size: 12}", "f");
  std::vector<std::string> overrides;
  for (const ValueOrigin& value : loaded.values) overrides.push_back(value.key + "=" + value.value);
  CHECK(parse_config("", "none", overrides).config == loaded.config);
}
