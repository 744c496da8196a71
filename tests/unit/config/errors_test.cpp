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
          "f.yaml:2: unknown key 'log.zzzzzzzzzzzzzz'; expected one of every_steps");
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
        "steps, precision, clip_norm, clip_head, ema, accumulate, deterministic, graphs, threads}");
  CHECK(message("model: {sync_batch_norm: maybe}\n") ==
        "f.yaml:2: model.sync_batch_norm: found 'maybe', expected true or false");
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

TEST_CASE("a linear head is given nothing that belongs to cosines") {
  CHECK(contains(message("head: {kind: linera}\n"), "expected margin, d_softmax or linear; did you mean 'linear'?"));
  for (const char* given :
       {"margin: cosface", "margin: {m2: .3}", "scale: 30", "gradient: straight_through", "interclass_filter: .4"}) {
    const std::string key(given, std::string(given).find(':'));
    const std::string kinds = key == "scale" || key == "interclass_filter" ? "margin or d_softmax" : "margin";
    CHECK(message("head: {kind: linear, " + std::string(given) + "}\n") ==
          "f.yaml:2: head." + key + ": given with head.kind linear, expected head.kind " + kinds +
              ", or the key left out: a linear head has no cosines");
  }
  CHECK(contains(message("head: {kind: linear}\noptimizer: {decay_norms: false}\n"),
                 "f.yaml:3: optimizer.decay_norms: found false with head.kind linear"));
  CHECK(parse_config("data: {train: a}\nhead: {kind: linear, scale: 64, margin: arcface}", "f").config.head.kind ==
        "linear");
}

TEST_CASE("D-Softmax has a termination and no margin, other heads the other way round") {
  CHECK(contains(message("head: {kind: dsoftmax}\n"), "did you mean 'd_softmax'?"));
  for (const char* given : {"margin: cosface", "margin: {m2: .3}", "gradient: straight_through"}) {
    const std::string key(given, std::string(given).find(':'));
    CHECK(message("head: {kind: d_softmax, " + std::string(given) + "}\n") ==
          "f.yaml:2: head." + key +
              ": given with head.kind d_softmax, expected head.kind margin, or the key left out: D-Softmax has "
              "no margin, a target is measured against head.termination");
  }
  CHECK(message("head: {termination: .5}\n") ==
        "f.yaml:2: head.termination: given with head.kind margin, expected head.kind d_softmax, or the key left out: "
        "with a margin a target is measured against the other classes");
  CHECK(contains(message("head: {kind: linear, termination: .5}\n"),
                 "head.termination: given with head.kind linear, expected head.kind d_softmax"));
  const HeadConfig head =
      parse_config("data: {train: a}\nhead: {kind: d_softmax, scale: 32, termination: .8, interclass_filter: .5}", "f")
          .config.head;
  CHECK(head.kind == "d_softmax");
  CHECK(head.termination == 0.8);
}

TEST_CASE("what samples classes is given to a method that samples so") {
  CHECK(message("head: {kind: linear, sampling: {method: knn}}\n") ==
        "f.yaml:2: head.sampling.method: found knn with head.kind linear, expected full or uniform: near is what has a "
        "large cosine, and a linear head's logits depend on lengths and biases as well");
  CHECK(contains(message("head: {sampling: {methode: knn}}\n"), "did you mean 'head.sampling.method'?"));
  CHECK(contains(message("head: {sampling: {rebuild: {probe: .9}}}\n"),
                 "f.yaml:2: unknown key 'head.sampling.rebuild.probe'"));
  const std::vector<std::pair<std::string, std::string>> meant{
      {"ratio=.3", "uniform or knn"},    {"active=100", "uniform or knn"}, {"neighbours=9", "knn"},
      {"uniform_share=.5", "knn"},       {"scoring=bf16", "knn"},          {"rebuild.every_epochs=3", "knn"},
      {"rebuild.probe_recall=.9", "knn"}};
  for (const auto& [option, method] : meant) {
    INFO(option);
    const std::string what =
        "with head.sampling.method full, expected head.sampling.method " + method + ", or the key left out";
    CHECK(contains(message("", {"head.sampling." + option}), what));
    CHECK(message("", {"head.sampling." + option, "head.sampling.method=knn"}).empty());
  }
  CHECK(
      contains(message("", {"head.sampling.neighbours=9", "head.sampling.method=uniform"}), "method knn, or the key"));
  CHECK(
      message("head: {sampling: {ratio: .5}}") ==
      "f.yaml:2: head.sampling.ratio: found 0.5 with head.sampling.method full, expected head.sampling.method uniform "
      "or knn, or the key left out");
  for (const char* with : {"method: full, active: 100", "method: uniform, neighbours: 9", "scoring: bf16",
                           "method: uniform, rebuild: {every_epochs: 2}", "rebuild: {probe_recall: .9}"}) {
    INFO(with);
    CHECK(contains(message("head: {sampling: {" + std::string(with) + "}}"), "or the key left out"));
    CHECK(message("head: {sampling: {" + std::string(with) + "}}", {"head.sampling.method=full"}).empty());
  }
  const std::string file = "head: {sampling: {method: uniform, active: 100}}";
  CHECK(message(file, {"head.sampling.ratio=.3"}) ==
        "-o: head.sampling.ratio: given beside f.yaml:2: head.sampling.active, which counts, expected one of the two: "
        "-o head.sampling.active=auto");
  CHECK(message(file, {"head.sampling.ratio=.3", "head.sampling.active=auto"}).empty());
}

TEST_CASE("what belongs to other optimizers is refused") {
  const std::string head = ", head: {name: sgd}";
  const std::vector<std::pair<std::string, std::string>> unused{
      {"name: adamw, nesterov: true, head: {name: adamw}",
       "nesterov: found true with optimizer.name adamw, expected optimizer.name sgd, or"},
      {"name: lamb, momentum: .8, head: {name: lamb}",
       "momentum: found 0.8 with optimizer.name lamb, expected optimizer.name sgd or lars, or"},
      {"name: lars, beta1: .8" + head,
       "beta1: found 0.8 with optimizer.name lars and optimizer.head.name sgd, expected optimizer.name adamw or lamb, "
       "or"},
      {"beta2: .99", "beta2: found 0.99 with optimizer.name sgd, expected optimizer.name adamw or lamb, or"},
      {"epsilon: 1e-6", "epsilon: found 1e-06 with optimizer.name sgd, expected optimizer.name adamw or lamb, or"},
      {"trust: .01", "trust: found 0.01 with optimizer.name sgd, expected optimizer.name lars, or"}};
  for (const auto& [given, expected] : unused) {
    INFO(given);
    CHECK(message("optimizer: {" + given + "}") == "f.yaml:2: optimizer." + expected + " the key left out");
  }
  // The head's optimizer may be the one that uses a key.
  CHECK(message("optimizer: {name: adamw, momentum: .8, nesterov: true" + head + "}").empty());
  CHECK(
      message("optimizer: {decay_norms: false, norms: {weight_decay: .1}}") ==
      "f.yaml:2: optimizer.norms.weight_decay: found 0.1 with optimizer.decay_norms false, which is a weight_decay of "
      "0, expected one of the two");
  CHECK(message("optimizer: {decay_norms: false, norms: {weight_decay: 0}}").empty());
  CHECK(message("optimizer: {norms: {weight_decay: 0}}").empty());
}

TEST_CASE("a head that is clipped has a norm to be clipped by") {
  CHECK(message("train: {clip_head: true, clip_norm: none}") ==
        "f.yaml:2: train.clip_head: found true with train.clip_norm none, expected a number there");
  CHECK(message("train: {clip_head: true}").empty());
}

TEST_CASE("averaged weights are evaluated where there are any") {
  CHECK(message("eval: {weights: ema}") ==
        "f.yaml:2: eval.weights: found ema without train.ema.decay, expected such as train: {ema: {decay: .999}}");
  CHECK(message("train: {ema: {every: 5}}") ==
        "f.yaml:2: train.ema.every: found 5 without train.ema.decay, expected both or none");
  CHECK(message("train: {ema: {every: 5, decay: .99}}\neval: {weights: ema}").empty());
}

TEST_CASE("sampled class centres that are updated by lamb cannot be caught up") {
  const auto sampled = [](const char* optimizer) {
    return message("head: {update: dense, sampling: {method: uniform, ratio: .1}}\n" + std::string(optimizer) + "\n");
  };
  const std::string found =
      "head.update: found dense with class centres that are updated by lamb and sampled (f.yaml:3: ";
  CHECK(contains_all(sampled("optimizer: {name: lamb}"), {"f.yaml:2: " + found +
                                                          "optimizer.name), expected head.update "
                                                          "lazy: "}));
  CHECK(contains(sampled("optimizer: {name: adamw, head: {name: lamb}}"), found + "optimizer.head.name)"));
  for (const char* others :
       {"optimizer: {name: lamb, head: {name: adamw}}", "optimizer: {name: lars}", "optimizer: {}"})
    CHECK(sampled(others).empty());
  CHECK(message("optimizer: {name: lamb}").empty());  // all centres are updated in every step
  CHECK(message("head: {update: lazy, sampling: {method: uniform}}\noptimizer: {name: lamb}").empty());
}

TEST_CASE("where the command line chooses the optimizer, the file's keys of other optimizers rest") {
  const std::string file = "{data: {train: a}, optimizer: {momentum: .8, nesterov: true, weight_decay: .1}}";
  const LoadedConfig loaded = parse_config(file, "f", {"optimizer.name=adamw", "optimizer.head.name=sgd"});
  CHECK(loaded.config.optimizer.nesterov);  // the head's
  CHECK(loaded.config.optimizer.weight_decay == 0.1);
  const std::string moments =
      "{data: {train: a}, optimizer: {name: lamb, beta1: .8, epsilon: 1e-6, head: {name: sgd}}}";
  CHECK(parse_config(moments, "f").config.optimizer.beta1 == 0.8);
  OptimizerConfig plain;
  plain.head.name = "sgd";
  const LoadedConfig sgd = parse_config(moments, "f", {"optimizer.name=sgd"});
  CHECK(sgd.config.optimizer == plain);
  CHECK(parse_config(to_yaml(sgd.config), "again").config == sgd.config);
  CHECK(contains(message("optimizer: {momentum: .8}",
                         {"optimizer.name=lamb", "optimizer.head.name=lamb", "optimizer.momentum=.7"}),
                 "-o: optimizer.momentum: found 0.7 with optimizer.name lamb"));
}

TEST_CASE("rebuilds of the class graph go by epochs unless probes are asked for") {
  const auto rebuild = [](const std::string& given) {
    return parse_config("{data: {train: a}, head: {sampling: {method: knn, rebuild: {" + given + "}}}}", "f")
        .config.head.sampling.rebuild;
  };
  CHECK(rebuild("") == RebuildConfig{1.0, {}});
  CHECK(rebuild("probe_recall: .9") == RebuildConfig{0.0, 0.9});
  CHECK(rebuild("probe_recall: .9, every_epochs: 2") == RebuildConfig{2.0, 0.9});
  CHECK(rebuild("every_epochs: none") == RebuildConfig{0.0, {}});
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
    CHECK(contains(message("ranks: 8\ntrain: {batch_size: 4}"), "f.yaml:3: train.batch_size: found 4"));
  }
  SECTION("schedules") {
    CHECK(contains(message("schedule: {warmup_steps: 5, warmup_epochs: 1}"), "expected one of the two"));
    CHECK(contains(message("schedule: {milestones: [3]}"),
                   "f.yaml:2: schedule.milestones: schedule.name is poly, expected step"));
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

TEST_CASE("where the command line chooses how to sample, the file's keys of other methods rest") {
  const std::string file =
      "{data: {train: a}, head: {sampling: {method: knn, ratio: .3, neighbours: 9, uniform_share: .2, scoring: bf16, "
      "rebuild: {every_epochs: 2, probe_recall: .9}}}}";
  const auto sampling = [&](const std::string& method) {
    const LoadedConfig loaded = parse_config(file, "f", {"head.sampling.method=" + method});
    CHECK(parse_config(to_yaml(loaded.config), "again").config == loaded.config);
    return loaded.config.head.sampling;
  };
  CHECK(sampling("knn").neighbours == 9);
  SamplingConfig uniform = sampling("uniform");
  CHECK(uniform.ratio == 0.3);
  uniform.ratio = SamplingConfig{}.ratio;
  SamplingConfig expected = sampling("full");
  CHECK(expected.rebuild == RebuildConfig{1.0, {}});
  CHECK(expected.neighbours == SamplingConfig{}.neighbours);
  expected.method = "uniform";
  CHECK(uniform == expected);
}
