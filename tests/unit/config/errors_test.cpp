// Every mistake is named with its line, its key, what was found and what was expected.
#include "config/config.h"
#include "support/catch.h"
#include "support/error_text.h"

using namespace plsc;
using plsc::test::contains;
using plsc::test::contains_all;
using plsc::test::error_text;

namespace {

/// The message for a file whose first line is good data and whose lines from 2 on are `yaml`.
std::string message(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  return error_text([&] { parse_config("data: {train: faces.rec}\n" + yaml, "f.yaml", overrides); });
}
std::string message_of(const std::string& yaml) {
  return error_text([&] { parse_config(yaml, "f.yaml"); });
}

}  // namespace

TEST_CASE("an unknown key is named with its line and the nearest valid one") {
  CHECK(message("train:\n  epochs: 3\n  batchsize: 12\n") ==
        "f.yaml:4: unknown key 'train.batchsize'; did you mean 'train.batch_size'?");
  CHECK(message("trian: {epochs: 3}\n") == "f.yaml:2: unknown key 'trian'; did you mean 'train'?");
  CHECK(message("head: {samplign: {ratio: .1}}\n") ==
        "f.yaml:2: unknown key 'head.samplign'; did you mean 'head.sampling'?");
  CHECK(message("train: {Epochs: 3}\n") == "f.yaml:2: unknown key 'train.Epochs'; did you mean 'train.epochs'?");

  SECTION("in another section") {
    CHECK(message("epochs: 3\n") == "f.yaml:2: unknown key 'epochs'; did you mean 'train.epochs'?");
    CHECK(message("train: {momentum: .9}\n") ==
          "f.yaml:2: unknown key 'train.momentum'; did you mean 'optimizer.momentum'?");
    CHECK(contains(message("train: {lr: 1}\n"), "unknown key 'train.lr'; did you mean 'schedule.base_lr'?"));
    CHECK(message("optimizer: {warmup_epoch: 1}\n") ==
          "f.yaml:2: unknown key 'optimizer.warmup_epoch'; did you mean 'schedule.warmup_epochs'?");
  }
  SECTION("by the name that another trainer gives it") {
    CHECK(message("sample_rate: .1\n") == "f.yaml:2: unknown key 'sample_rate'; did you mean 'head.sampling.ratio'?");
    CHECK(message("head: {num_classes: 10}\n") ==
          "f.yaml:2: unknown key 'head.num_classes'; did you mean 'head.classes'?");
    CHECK(message("emb_size: 10\n") == "f.yaml:2: unknown key 'emb_size'; did you mean 'model.embedding_size'?");
  }
  SECTION("with nothing near, what there is") {
    CHECK(message("log: {zzzzzzzzzzzzzz: 1}\n") ==
          "f.yaml:2: unknown key 'log.zzzzzzzzzzzzzz'; expected one of every_steps, trace, trace_first, trace_steps");
  }
  SECTION("in a value with parts") {
    CHECK(message("head: {margin: {m4: 1}}\n") ==
          "f.yaml:2: unknown key 'head.margin.m4'; did you mean 'head.margin.m1'?");
    CHECK(message("eval:\n  sets:\n  - name: a\n    bim: x\n") ==
          "f.yaml:5: unknown key 'eval.sets[0].bim'; did you mean 'eval.sets[0].bin'?");
    CHECK(message("model: {backbone: {width: [8]}}\n") ==
          "f.yaml:2: unknown key 'model.backbone.width'; did you mean 'model.backbone.widths'?");
  }
}

TEST_CASE("a wrong type says what was found and what was expected") {
  CHECK(message("train:\n  batch_size: abc\n") ==
        "f.yaml:3: train.batch_size: found 'abc', expected a whole number >= 1, or auto");
  CHECK(message("train: {batch_size: 1.5}\n") ==
        "f.yaml:2: train.batch_size: found '1.5', expected a whole number >= 1, or auto");
  CHECK(message("train: {batch_size: '12'}\n") ==
        "f.yaml:2: train.batch_size: found '12', expected a whole number >= 1, or auto");
  CHECK(message("train: {epochs: [1]}\n") == "f.yaml:2: train.epochs: found a list, expected a number > 0");
  CHECK(message("train:\n  epochs: {a: 1}\n") == "f.yaml:3: train.epochs: found a mapping, expected a number > 0");
  CHECK(message("train:\n  epochs:\n") == "f.yaml:3: train.epochs: found nothing, expected a number > 0");
  CHECK(message("train: 12\n") ==
        "f.yaml:2: train: found '12', expected a mapping {batch_size, batch_per_rank, epochs, "
        "steps, precision, clip_norm, clip_head, ema, accumulate, grow, pipeline, deterministic, graphs, threads}");
  CHECK(message("model: {sync_batch_norm: maybe}\n") ==
        "f.yaml:2: model.sync_batch_norm: found 'maybe', expected true, false or a whole number of ranks >= 2");
  CHECK(contains(message("model: {sync_batch_norm: 1}\n"), "expected true, false or a whole number of ranks >= 2"));
  CHECK(message("schedule: {base_lr: .inf}\n") == "f.yaml:2: schedule.base_lr: found '.inf', expected a number > 0");
  CHECK(message("schedule: {base_lr: nan}\n") == "f.yaml:2: schedule.base_lr: found 'nan', expected a number > 0");
  CHECK(message("comm: {timeout: 10 parsecs}\n") ==
        "f.yaml:2: comm.timeout: found '10 parsecs', expected a time > 0 such as 10min or 90s");
  CHECK(contains(message_of("data: {train: a, cache_limit: 8XB}"), "f.yaml:1: data.cache_limit: found '8XB'"));
  CHECK(contains(message_of("data: {train: [a, [b]]}"), "f.yaml:1: data.train: found a list, expected a text"));
  CHECK(contains(message_of("data: {train: a, augment: [blur: 1]}"), "data.augment: found 'blur', expected flip"));
  CHECK(contains(message_of("data: {train: a, augment: [flip: 2]}"),
                 "data.augment.flip: found '2', expected a number in [0, 1]"));
  CHECK(contains(message_of("data: {train: a, image_size: [1, 2, 3]}"), "found 3 sizes, expected [height, width]"));
}

TEST_CASE("a word that is none of the valid ones gets the nearest") {
  CHECK(message("schedule: {name: cosin}\n") ==
        "f.yaml:2: schedule.name: found 'cosin', expected poly, step, cosine, constant or one_cycle; did you mean "
        "'cosine'?");
  CHECK(contains(message("head: {margin: arcfase}\n"), "did you mean 'arcface'?"));
  CHECK(contains(message("device: gpu\n"), "f.yaml:2: device: found 'gpu', expected auto, cpu or cuda"));
  CHECK(contains(message("model: {backbone: iresnet51}\n"),
                 "f.yaml:2: model.backbone: found 'iresnet51', which is no backbone; did you mean 'iresnet50'?"));
  CHECK(contains(message("model: {backbone: quantum}\n"), "expected one of iresnet18, iresnet34"));
}

TEST_CASE("numbers have bounds") {
  const std::vector<std::string> bad{"head: {margin: {m1: .9}}",
                                     "head: {margin: {m2: -.1}}",
                                     "head: {margin: {m3: -1}}",
                                     "head: {scale: 0}",
                                     "head: {kind: d_softmax, termination: 2.1}",
                                     "head: {kind: d_softmax, termination: -1.1}",
                                     "head: {sampling: {ratio: 0}}",
                                     "head: {sampling: {ratio: 1.01}}",
                                     "head: {sampling: {active: 0}}",
                                     "head: {sampling: {neighbours: 0}}",
                                     "head: {sampling: {neighbours: 751}}",
                                     "head: {sampling: {uniform_share: 1}}",
                                     "head: {sampling: {uniform_share: -.1}}",
                                     "head: {sampling: {rebuild: {every_epochs: -1}}}",
                                     "head: {sampling: {rebuild: {probe_recall: 0}}}",
                                     "head: {sampling: {rebuild: {probe_recall: 1.1}}}",
                                     "head: {sampling: {scoring: fp16}}",
                                     "head: {interclass_filter: 2}",
                                     "head: {init_std: -1}",
                                     "head: {classes: 0}",
                                     "model: {dropout: 1}",
                                     "model: {dropout: -.1}",
                                     "model: {embedding_size: 0}",
                                     "optimizer: {momentum: 1}",
                                     "optimizer: {momentum: -.1}",
                                     "optimizer: {weight_decay: -1}",
                                     "optimizer: {name: adamw, beta1: 1}",
                                     "optimizer: {name: adamw, beta2: -.1}",
                                     "optimizer: {name: adamw, epsilon: 0}",
                                     "optimizer: {name: lars, trust: 0}",
                                     "optimizer: {head: {lr: 0}}",
                                     "optimizer: {head: {weight_decay: -1}}",
                                     "optimizer: {norms: {lr: 0}}",
                                     "train: {ema: {decay: 1}}",
                                     "train: {ema: {decay: .9, every: 0}}",
                                     "optimizer: {norms: {weight_decay: -1}}",
                                     "schedule: {base_lr: 0}",
                                     "schedule: {power: 0}",
                                     "schedule: {warmup_steps: -1}",
                                     "schedule: {factor: 0}",
                                     "schedule: {final_lr: -1}",
                                     "schedule: {milestones: [0]}",
                                     "train: {batch_size: 0}",
                                     "train: {batch_per_rank: 0}",
                                     "train: {epochs: 0}",
                                     "train: {steps: -1}",
                                     "train: {clip_norm: -1}",
                                     "train: {accumulate: 0}",
                                     "train: {threads: 0}",
                                     "gpus: -1",
                                     "gpus: [1024]",
                                     "checkpoint: {keep: 0}",
                                     "checkpoint: {every_steps: -1}",
                                     "checkpoint: {every_epochs: -.5}",
                                     "checkpoint: {keep_every: -2}",
                                     "eval: {batch_size: 0}",
                                     "eval: {every_steps: -3}",
                                     "log: {every_steps: 0}",
                                     "comm: {timeout: 0}",
                                     "ranks: 0",
                                     "seed: -1",
                                     "model: {backbone: {stem: 0}}",
                                     "model: {backbone: {widths: [0], blocks: [1]}}"};
  for (const std::string& yaml : bad) {
    INFO(yaml);
    const std::string text = message(yaml);
    const std::string value = yaml.substr(yaml.rfind(": ") + 2);
    CHECK(contains(text, "f.yaml:2: "));
    CHECK(contains(text, "found "));
    CHECK(contains(text, ", expected "));
  }
  for (const char* part : {"image_size: 0", "channels: 0", "channels: 4", "channels: 2", "workers: 0", "cache_limit: 0",
                           "normalize: {std: 0}", "normalize: {mean: [1, 2]}", "synthetic: {classes: 0}"}) {
    INFO(part);
    CHECK(contains(message_of(std::string("data: {train: a, ") + part + "}"), ", expected "));
  }
}

TEST_CASE("combinations that cannot be") {
  SECTION("two sizes of one batch") {
    CHECK(message("train:\n  batch_size: 128\n  batch_per_rank: 64\n") ==
          "f.yaml:4: train.batch_per_rank: given beside f.yaml:3: train.batch_size, expected one of the two");
  }
  SECTION("steps and epochs together are fine") { CHECK(message("train: {epochs: 2, steps: 10}").empty()); }
  SECTION("accumulation and ranks against the batch") {
    CHECK(contains(message("train: {batch_size: 4, accumulate: 8}"), "expected at most train.batch_size, 4"));
    CHECK(contains(message("train: {batch_size: 4, pipeline: 8}"),
                   "found 8, expected no more micro-batches than train.batch_size, 4"));
    CHECK(contains(message("train: {batch_per_rank: 7, accumulate: 2, pipeline: 4}"),
                   "found 4 with train.accumulate 2, expected no more micro-batches than train.batch_per_rank, 7"));
    CHECK(contains(message("ranks: 8\ntrain: {batch_size: 4}"), "f.yaml:3: train.batch_size: found 4"));
  }
  SECTION("schedules") {
    CHECK(contains(message("schedule: {warmup_steps: 5, warmup_epochs: 1}"), "expected one of the two"));
    CHECK(message("schedule: {milestones: [3]}") ==
          "f.yaml:2: schedule.milestones: found [3] with schedule.name poly, expected schedule.name step, or the key "
          "left out");
    CHECK(contains(message("schedule: {name: step}"), "expected milestones"));
    CHECK(contains(message("schedule: {name: step, milestones: [3], milestone_steps: [100]}"),
                   "expected one of the two"));
    CHECK(contains(message("schedule: {name: step, milestones: [3, 3]}"), "expected rising values"));
    CHECK(message("schedule: {name: step, milestones: [3, 4.5]}").empty());
    CHECK(contains(message("schedule: {base_lr: .1, final_lr: .2}"), "expected at most schedule.base_lr"));
    CHECK(contains(message("schedule: {base_lr: .1, start_lr: .2}"), "schedule.start_lr: found 0.2, expected at most"));
  }
  SECTION("schedules of the peers") {
    CHECK(message("schedule: {compat: insightface_head}").empty());
    CHECK(message("schedule: {compat: insightface_2022, power: 2, warmup_epochs: 2}").empty());
    CHECK(message("schedule: {compat: plsc, name: cosine, final_lr: .001, start_lr: .01}").empty());
    CHECK(message("schedule: {compat: plsc, name: step, milestones: [3]}").empty());
    CHECK(contains(message("schedule: {compat: insightface_head, power: 2}"),
                   "schedule.power: found 2 with schedule.compat insightface_head, expected 1, or the key left out"));
    CHECK(contains(message("schedule: {compat: insightface_2022, name: cosine}"), "expected poly"));
    CHECK(contains(message("schedule: {compat: plsc, name: one_cycle}"), "expected poly, step or cosine"));
    CHECK(contains(message("schedule: {compat: plsc, final_lr: .01}"), "schedule.final_lr: found 0.01"));
    CHECK(contains(message("schedule: {compat: insightface_head, start_lr: .01}"), "expected auto or 0"));
  }
  SECTION("data") {
    CHECK(contains(message_of("output: x"), "f.yaml: data.train is missing, expected a path"));
    CHECK(contains(message_of("data: {train: [a.rec, synthetic]}"), "expected it alone"));
    CHECK(contains(message_of("data: {train: a, channels: 1, normalize: {mean: [1, 2, 3]}}"), "expected 1 or 1"));
  }
  SECTION("evaluation sets") {
    const auto sets = [](const std::string& set) { return message("eval: {sets: [" + set + "]}"); };
    CHECK(contains(sets("{name: a, bin: x, folder: y, pairs: z}"), "set 'a' needs one of"));
    CHECK(contains(sets("{name: a, bin: x, data: y}"), "set 'a' needs one of"));
    CHECK(contains(sets("{name: a, folder: y}"), "set 'a' needs one of"));
    CHECK(contains(sets("{name: a, pairs: y}"), "set 'a' needs one of"));
    CHECK(contains(sets("{name: a}"), "set 'a' needs one of"));
    CHECK(contains(sets("{name: a, bin: x, kind: classification}"), "set 'a' needs one of"));
    CHECK(contains(sets("{name: a, data: x, kind: verification}"), "set 'a' needs one of"));
    CHECK(contains(sets("{bin: x}"), "without a name"));
    CHECK(contains(sets("{name: a/b, bin: x}"), "without slashes"));
    CHECK(contains(sets("{name: a, bin: x}, {name: a, bin: y}"), "found 'a' twice"));
    CHECK(contains(sets("lfw.bin"), "f.yaml:2: eval.sets[0]: found 'lfw.bin', expected a mapping"));
    CHECK(contains(message("eval: {sets: lfw.bin}"), "expected a list of sets"));
  }
  SECTION("the best checkpoint") {
    const std::string set = "eval: {sets: [{name: lfw, bin: x}]}\n";
    CHECK(contains(message(set + "checkpoint: {best: {set: lfv}}"),
                   "f.yaml:3: checkpoint.best.set: found 'lfv', expected the name of a set of eval.sets (lfw); did you "
                   "mean 'lfw'?"));
    CHECK(contains(message("checkpoint: {best: {set: lfw}}"), "it has none"));
    CHECK(contains(message(set + "checkpoint: {best: {metric: auc}}"), "without checkpoint.best.set"));
    CHECK(contains(message(set + "checkpoint: {best: {set: lfw, metric: top1}}"), "found 'top1'"));
    CHECK(contains(
        message(
            "eval: {every_epochs: none, at_end: false, sets: [{name: lfw, bin: x}]}\ncheckpoint: {best: {set: lfw}}"),
        "nothing is ever evaluated"));
  }
  SECTION("backbones") {
    CHECK(contains(message("model: {backbone: {widths: [8, 8], blocks: [1]}}"), "blocks: found 1 values, expected 2"));
    CHECK(contains(message("model: {backbone: {widths: [8], blocks: [1], strides: [1, 1]}}"),
                   "strides: found 2 values, expected 1"));
    CHECK(contains(message("model: {backbone: {kind: iresnet, bottleneck: true}}"), "expected kind resnet"));
    CHECK(contains(message("model: {backbone: {widths: [], blocks: []}}"), "empty list"));
  }
  SECTION("the rest") {
    CHECK(
        contains(message("device: cpu\ncomm: {backend: nccl}"), "f.yaml:3: comm.backend: found nccl with device cpu"));
    CHECK(
        contains(message("device: cpu\ngpus: 1"), "f.yaml:3: gpus: found GPUs with device cpu, expected device auto"));
    CHECK(contains(message("gpus: [1, 0, 1]"), "f.yaml:2: gpus: found 1 twice"));
    CHECK(
        contains(message("device: cpu\ntrain: {graphs: true}"), "f.yaml:3: train.graphs: found true with device cpu"));
    CHECK(
        contains(message("device: cpu\ntrain: {precision: fp16}"), "found fp16 with device cpu, expected fp32, bf16"));
    CHECK(contains(message("device: cpu\ntrain: {precision: tf32}"), "found tf32 with device cpu"));
    CHECK(contains(message("device: cpu\ntrain: {precision: bf16, deterministic: true}"),
                   "f.yaml:3: train.deterministic: found true with train.precision bf16"));
    // With a GPU these mean something; which device it will be is not known here.
    CHECK(message("gpus: [1, 0]\ntrain: {precision: fp16, graphs: true, deterministic: true}").empty());
    CHECK(contains(message("optimizer: {nesterov: true, momentum: 0}"), "expected momentum above 0"));
    CHECK(contains(message("init: {head: true}"), "without init.from"));
    CHECK(contains(message("init: {head: perhaps}"), "expected auto, true or false"));
    CHECK(contains(message("init: {from: x, freeze: [layer9]}"),
                   "found 'layer9', expected stem, layer1 to layer4 or tail"));
    CHECK(message("init: {from: x, head: true, freeze: [stem, layer1, tail]}").empty());
    CHECK(contains(message("model: {recompute: [stem, layer5]}"),
                   "f.yaml:2: model.recompute: found 'layer5', expected stem, layer1 to layer4 or all"));
    CHECK(contains(message("model: {recompute: [tail]}"), "found 'tail', expected stem, layer1 to layer4 or all"));
    CHECK(contains(message("model: {recompute: [all, stem]}"), "found all beside parts, expected it alone"));
    CHECK(message("model: {recompute: [stem, layer4]}").empty());
    CHECK(message("model: {recompute: all}").empty());
    CHECK(contains(message("ranks: 6\nmodel: {sync_batch_norm: 4}"),
                   "f.yaml:3: model.sync_batch_norm: found 4, expected a number that divides ranks, 6"));
    CHECK(message("ranks: 6\nmodel: {sync_batch_norm: 3}").empty());
    CHECK(message("model: {sync_batch_norm: 4}").empty());  // how many ranks there are is not known here
  }
}

TEST_CASE("text that is no configuration") {
  CHECK(contains(message_of(""), "f.yaml: is empty"));
  CHECK(contains(message_of("# nothing but a comment\n"), "f.yaml: is empty"));
  CHECK(contains(message_of("- a\n- b\n"), "f.yaml:1: found a list, expected keys"));
  CHECK(contains(message_of("hello"), "f.yaml:1: found 'hello', expected keys"));
  CHECK(message_of("data:\n\ttrain: x\n") == "f.yaml:2: found a tab in the indentation, expected spaces");
  CHECK(contains(message_of("data: {train: x\noutput: y\n"), "f.yaml:"));
  CHECK(contains(message_of("data: {train: x\noutput: y\n"), "not YAML"));
  CHECK(contains(message_of("output: a\ndata: {train: x}\noutput: b\n"),
                 "f.yaml:3: key 'output' stands twice; it was given at f.yaml:1"));
  CHECK(contains(message_of("train: {epochs: 1}\ndata:\n  train: x\n  train: y\n"),
                 "f.yaml:4: key 'train' stands twice"));
  CHECK(contains(message_of("data: {train: x}\n---\noutput: y\n"), "several documents"));
  CHECK(contains(message_of("? [a, b]\n: c\n"), "expected the name of a key"));
  CHECK(contains(message_of("data: {train: *nowhere}\n"), "not YAML"));
  CHECK(contains(message_of("data: &d {train: *d}\n"), "alias"));
}

TEST_CASE("aliases cannot ask for any amount of memory") {
  std::string yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    yaml += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) yaml += std::string(j == 0 ? "" : ", ") + "*a" + std::to_string(i - 1);
    yaml += "]\n";
  }
  CHECK(contains(message_of(yaml), "aliases included"));
}

TEST_CASE("mistakes on the command line") {
  CHECK(contains(message("", {"train.epochs"}), "-o train.epochs: expected key.path=value"));
  CHECK(contains(message("", {"=3"}), "expected key.path=value"));
  CHECK(contains(message("", {"train..epochs=3"}), "expected key.path=value"));
  CHECK(message("", {"train.batchsize=3"}) == "-o: unknown key 'train.batchsize'; did you mean 'train.batch_size'?");
  CHECK(message("", {"epochs=3"}) == "-o: unknown key 'epochs'; did you mean 'train.epochs'?");
  CHECK(message("", {"train.epochs=abc"}) == "-o: train.epochs: found 'abc', expected a number > 0");
  CHECK(message("", {"train.epochs="}) == "-o: train.epochs: found nothing, expected a number > 0");
  CHECK(contains(message("", {"train.epochs.x=1"}), "unknown key 'train.epochs.x'; train.epochs is one value"));
  CHECK(contains(message("", {"head.margin.m9=1"}), "unknown key 'head.margin.m9'"));
  CHECK(contains(message("", {"data.train=[a"}), "-o: not YAML"));
  CHECK(contains(message("train: {batch_size: 8}", {"train.batch_per_rank=8"}),
                 "-o: train.batch_per_rank: given beside f.yaml:2: train.batch_size"));
  CHECK(contains(message("", {"train=3"}), "-o: train: found '3', expected a mapping"));
}

TEST_CASE("a batch that grows says by how much and from when to when, and its passes are all of one size") {
  CHECK(message("train: {grow: {until_epoch: 4}}\n") ==
        "f.yaml:2: train.grow.until_epoch: found 4 without train.grow.factor, expected both or none");
  CHECK(message("train: {grow: {from_epoch: 2}}\n") ==
        "f.yaml:2: train.grow.from_epoch: found 2 without train.grow.factor, expected both or none");
  CHECK(
      contains(message("train: {grow: {factor: 4}}\n"),
               "f.yaml:2: train.grow.factor: found 4 without train.grow.until_epoch, expected such as train: {grow:"));
  CHECK(contains(message("", {"train.grow={factor: 4}"}), "-o: train.grow.factor: found 4 without"));
  CHECK(message("train:\n  grow:\n    factor: 4\n    from_epoch: 3\n    until_epoch: 2.5\n") ==
        "f.yaml:6: train.grow.until_epoch: found 2.5, expected more than train.grow.from_epoch, 3");
  CHECK(message("train: {batch_size: 30, accumulate: 4, grow: {factor: 4, until_epoch: 2}}\n") ==
        "f.yaml:2: train.batch_size: found 30, expected a multiple of train.accumulate, 4: the batch grows by whole "
        "passes");
  CHECK(contains(message("train: {batch_per_rank: 6, accumulate: 4, grow: {factor: 4, until_epoch: 2}}\n"),
                 "train.batch_per_rank: found 6, expected a multiple of train.accumulate, 4"));
  CHECK(contains(message("train: {grow: {factor: 1, until_epoch: 2}}\n"), "found '1', expected a whole number from 2"));
  CHECK(contains(message("train: {grow: {factor: 2, until_epoch: 2}}\nschedule: {compat: plsc}\n"),
                 "f.yaml:2: train.grow.factor: found 2 with schedule.compat plsc, expected none"));
  CHECK(message("train: {batch_size: 32, accumulate: 4, grow: {factor: 4, until_epoch: 2}}\n").empty());
}
