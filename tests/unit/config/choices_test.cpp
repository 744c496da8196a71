// Keys that belong to another head, method or optimizer than the chosen one.
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

}  // namespace

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

TEST_CASE("gradients are compressed where the rest of the configuration goes with it") {
  const std::string topk = "comm: {compress: {method: topk}}\n";
  CHECK(message(topk).empty());
  CHECK(message("comm: {compress: {method: topk, ratio: 1, warmup_epochs: 0, exclude: 1, intra_node: none}}").empty());
  CHECK(message("comm: {compress: {ratio: .01}}") ==
        "f.yaml:2: comm.compress.ratio: found 0.01 without comm.compress.method, expected comm: {compress: {method: "
        "topk}}, or the key left out");
  CHECK(message("comm: {compress: {method: none, intra_node: none}}").find("comm.compress.intra_node: found none") !=
        std::string::npos);
  CHECK(message("comm: {compress: {method: topk, ratio: 0}}").find("comm.compress.ratio: found '0'") !=
        std::string::npos);
  CHECK(message(topk + "optimizer: {name: lars}").empty());
  for (const std::string name : {"adamw", "lamb"}) {
    CHECK(message(topk + "optimizer: {name: " + name + "}")
              .starts_with("f.yaml:2: comm.compress.method: found topk with optimizer.name " + name +
                           ", expected sgd or lars: "));
  }
  CHECK(message(topk + "train: {clip_head: true}").find("found topk with train.clip_head true") != std::string::npos);
  CHECK(
      message(topk + "device: cpu\ntrain: {deterministic: true}").find("train.deterministic true, expected auto or") !=
      std::string::npos);
  CHECK(message(topk + "device: cuda\ntrain: {deterministic: true}").empty());
}

TEST_CASE("where the command line turns something off, the file's keys of it rest") {
  const std::string file =
      "train: {ema: {decay: .99, every: 5}, grow: {factor: 4, from_epoch: 1, until_epoch: 3}}\n"
      "comm: {compress: {method: topk, ratio: .01, warmup_epochs: 1, exclude: 100, intra_node: none}}\n"
      "schedule: {name: step, milestones: [3], factor: .5}\n";
  REQUIRE(message(file).empty());
  const auto config = [&](const std::vector<std::string>& overrides) {
    return parse_config("data: {train: a}\n" + file, "f.yaml", overrides).config;
  };
  CHECK(config({"comm.compress.method=none"}).comm.compress == CompressConfig{});
  CHECK(config({"comm.compress={method: none}"}).comm.compress == CompressConfig{});
  CHECK(config({"train.grow.factor=none"}).train.grow == GrowConfig{});
  CHECK(config({"train.ema.decay=none"}).train.ema == EmaConfig{});
  const ScheduleConfig schedule = config({"schedule.name=cosine"}).schedule;
  CHECK((schedule.milestones.empty() && schedule.factor == ScheduleConfig{}.factor));
  // What the command line gives itself does not.
  CHECK(contains(message(file, {"comm.compress.method=none", "comm.compress.ratio=.1"}),
                 "-o: comm.compress.ratio: found 0.1 without comm.compress.method"));
  CHECK(contains(message(file, {"train.ema.decay=none", "train.ema.every=7"}), "-o: train.ema.every: found 7"));
  CHECK(contains(message(file, {"train.grow.factor=none", "train.grow.from_epoch=2"}),
                 "-o: train.grow.from_epoch: found 2 without train.grow.factor, expected both or none"));
}

TEST_CASE("a schedule is given nothing that belongs to another") {
  for (const auto& [given, expected] : std::vector<std::pair<std::string, std::string>>{
           {"name: cosine, power: 3", "power: found 3 with schedule.name cosine, expected schedule.name poly"},
           {"factor: .5", "factor: found 0.5 with schedule.name poly, expected schedule.name step"},
           {"name: cosine, milestone_steps: [100, 200]",
            "milestone_steps: found [100, 200] with schedule.name cosine, expected schedule.name step"},
           {"name: constant, final_lr: .01",
            "final_lr: found 0.01 with schedule.name constant, expected schedule.name poly or cosine or one_cycle"}})
    CHECK(message("schedule: {" + given + "}") == "f.yaml:2: schedule." + expected + ", or the key left out");
}

TEST_CASE("what shapes the weights and has changed is named") {
  const auto differences = [](const std::string& now) {
    return training_differences(parse_config("data: {train: a}\n", "f").config,
                                parse_config("data: {train: a}\n" + now, "f").config);
  };
  CHECK(differences("comm: {dtype: bf16}\n") == std::vector<std::string>{"comm.dtype fp32 -> bf16"});
  CHECK(differences("comm: {compress: {method: topk}}\n") ==
        std::vector<std::string>{"comm.compress.method none -> topk"});
  CHECK(differences("comm: {bucket: 1MiB, timeout: 1min}\nlog: {every_steps: 3}\n").empty());
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
