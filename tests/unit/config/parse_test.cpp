// What a configuration may look like: the forms of each kind of value, overrides, origins.
#include <cmath>

#include "config/config.h"
#include "support/catch.h"
#include "support/error_text.h"
#include "support/temp_folder.h"

using namespace plsc;
using plsc::test::contains;
using plsc::test::contains_all;
using plsc::test::error_text;

namespace {

/// A whole configuration out of what one test is about.
Config parsed(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  return parse_config("data: {train: faces.rec}\n" + yaml, "f.yaml", overrides).config;
}
Config with_data(const std::string& yaml) {
  return parse_config("data: {train: a.rec, " + yaml + "}\n", "f.yaml").config;
}

const ValueOrigin& value_of(const LoadedConfig& loaded, const std::string& key) {
  for (const ValueOrigin& value : loaded.values)
    if (value.key == key) return value;
  throw std::runtime_error("no key " + key);
}

}  // namespace

TEST_CASE("five lines are a complete and sensible configuration") {
  const LoadedConfig loaded = parse_config(
      "output: runs/mine\n"
      "data: {train: photos}\n"
      "train: {epochs: 12, batch_size: 256}\n"
      "eval: {sets: [{name: held_out, folder: more, pairs: pairs.txt}]}\n"
      "model: {backbone: iresnet18}\n",
      "mine.yaml");
  const Config& c = loaded.config;
  CHECK(c.output == "runs/mine");
  CHECK(c.data.train == std::vector<std::string>{"photos"});
  CHECK(c.train.epochs == 12);
  CHECK(c.train.batch_size == 256);
  CHECK(c.train.batch_per_rank == 0);
  CHECK(c.model.backbone.blocks == std::vector<int64_t>{2, 2, 2, 2});
  // What is not said is what the reference promises.
  CHECK(c.head.margin == MarginConfig{"arcface", 1, 0.5, 0});
  CHECK(c.head.scale == 64);
  CHECK(c.head.classes == 0);
  CHECK(c.schedule.name == "poly");
  CHECK(c.schedule.base_lr == 0.1);
  CHECK(c.optimizer.momentum == 0.9);
  CHECK(c.checkpoint.at_end);
  CHECK(c.eval.at_end);
  CHECK(c.eval.sets.at(0).kind == "verification");
}

TEST_CASE("the least configuration is the data alone") {
  const Config c = parse_config("data: {train: photos}", "f.yaml").config;
  CHECK(c.train.batch_per_rank == 128);
  CHECK(c.train.batch_size == 0);
  CHECK(c.train.epochs == 20);
}

TEST_CASE("numbers in every usual notation") {
  CHECK(parsed("optimizer: {weight_decay: 5e-4}").optimizer.weight_decay == 5e-4);
  CHECK(parsed("optimizer: {momentum: .5}").optimizer.momentum == 0.5);
  CHECK(parsed("optimizer: {weight_decay: 1E-3}").optimizer.weight_decay == 1e-3);
  CHECK(parsed("schedule: {base_lr: 1.}").schedule.base_lr == 1);
  CHECK(parsed("schedule: {base_lr: +0.25}").schedule.base_lr == 0.25);
  CHECK(parsed("head: {classes: 10_000_000}").head.classes == 10000000);
  CHECK(parsed("head: {classes: 1e6}").head.classes == 1000000);
  CHECK(parsed("seed: 18446744073709551615").seed == 18446744073709551615ULL);
}

TEST_CASE("data.train is a path or a list of paths") {
  CHECK(parse_config("data: {train: [a.rec, b.rec]}", "f").config.data.train ==
        std::vector<std::string>{"a.rec", "b.rec"});
  CHECK(parse_config("data:\n  train:\n  - a b.rec\n  - c.rec\n", "f").config.data.train ==
        std::vector<std::string>{"a b.rec", "c.rec"});
  const Config c = parse_config("data: {train: synthetic, synthetic: {classes: 7, images: 70}}", "f").config;
  CHECK(c.data.train.at(0) == "synthetic");
  CHECK(c.data.synthetic == SyntheticConfig{7, 70});
}

TEST_CASE("image size, normalisation and augmentation") {
  CHECK(with_data("image_size: 32").data.image_size == std::array<int64_t, 2>{32, 32});
  CHECK(with_data("image_size: [96, 112]").data.image_size == std::array<int64_t, 2>{96, 112});
  CHECK(with_data("normalize: {mean: 0, std: 255}").data.mean == std::vector<double>{0});
  CHECK(with_data("normalize: {mean: [1, 2, 3], std: 255}").data.mean == std::vector<double>{1, 2, 3});
  CHECK(with_data("augment: [flip]").data.augment == std::vector<AugmentConfig>{{"flip", 0.5}});
  CHECK(with_data("augment: [flip: .25]").data.augment == std::vector<AugmentConfig>{{"flip", 0.25}});
  CHECK(with_data("augment: {flip: 1}").data.augment == std::vector<AugmentConfig>{{"flip", 1}});
  CHECK(with_data("augment: none").data.augment.empty());
  CHECK(with_data("augment: []").data.augment.empty());
}

TEST_CASE("sizes and times have units") {
  CHECK(with_data("cache_limit: 8GiB").data.cache_limit == int64_t{8} << 30);
  CHECK(with_data("cache_limit: 8 GiB").data.cache_limit == int64_t{8} << 30);
  CHECK(with_data("cache_limit: .5GiB").data.cache_limit == int64_t{1} << 29);
  CHECK(with_data("cache_limit: 500MB").data.cache_limit == 500000000);
  CHECK(with_data("cache_limit: 12345").data.cache_limit == 12345);
  CHECK(with_data("cache_limit: auto").data.cache_limit == 0);
  CHECK(parsed("comm: {timeout: 10min}").comm.timeout == 600);
  CHECK(parsed("comm: {timeout: 90s}").comm.timeout == 90);
  CHECK(parsed("comm: {timeout: 1.5h}").comm.timeout == 5400);
  CHECK(parsed("comm: {timeout: 250ms}").comm.timeout == 0.25);
  CHECK(parsed("comm: {timeout: 45}").comm.timeout == 45);
}

TEST_CASE("words that stand for a value or none") {
  CHECK(parsed("ranks: 3").ranks == 3);
  CHECK(parsed("ranks: auto").ranks == 0);
  CHECK(parsed("head: {classes: auto}").head.classes == 0);
  CHECK(parsed("head: {interclass_filter: off}").head.interclass_filter == std::nullopt);
  CHECK(parsed("head: {interclass_filter: .4}").head.interclass_filter == 0.4);
  CHECK(parsed("head: {init_std: xavier}").head.init_std == 0);
  CHECK(parsed("head: {init_std: .02}").head.init_std == 0.02);
  CHECK(parsed("train: {clip_norm: none}").train.clip_norm == 0);
  CHECK(parsed("train: {clip_norm: 0}").train.clip_norm == 0);
  CHECK(parsed("train: {clip_norm: 2.5}").train.clip_norm == 2.5);
  CHECK(parsed("schedule: {warmup_epochs: 2}").schedule.warmup_epochs == 2.0);
  CHECK(parsed("init: {from: none}").init.from.empty());
  CHECK(parsed("init: {from: 'none'}").init.from == "none");
}

TEST_CASE("margins by name and by numbers") {
  CHECK(parsed("head: {margin: cosface}").head.margin == MarginConfig{"cosface", 1, 0, 0.4});
  CHECK(parsed("head: {margin: sphereface}").head.margin == MarginConfig{"sphereface", 1.35, 0, 0});
  CHECK(parsed("head: {margin: none}").head.margin == MarginConfig{"none", 1, 0, 0});
  CHECK(parsed("head: {margin: {m1: 1.1, m2: .3, m3: .2}}").head.margin == MarginConfig{"custom", 1.1, 0.3, 0.2});
  CHECK(parsed("head: {margin: {m3: .35}}").head.margin == MarginConfig{"custom", 1, 0, 0.35});
}

TEST_CASE("backbones by name and spelled out") {
  CHECK(parsed("model: {backbone: resnet50}").model.backbone.bottleneck);
  const BackboneConfig small =
      parsed("model: {backbone: {kind: iresnet, stem: 32, widths: [32, 64], blocks: [1, 2]}}").model.backbone;
  CHECK(small.name.empty());
  CHECK(small.kind == "iresnet");
  CHECK(small.stem == 32);
  CHECK(small.widths == std::vector<int64_t>{32, 64});
  CHECK(small.blocks == std::vector<int64_t>{1, 2});
  CHECK(small.strides == std::vector<int64_t>{2, 2});
  CHECK(parsed("model: {backbone: {kind: resnet, widths: [8, 8, 8], blocks: [1, 1, 1]}}").model.backbone.strides ==
        std::vector<int64_t>{1, 2, 2});
  CHECK(parsed("model: {backbone: {widths: [8], blocks: [1], strides: 1}}").model.backbone.strides ==
        std::vector<int64_t>{1});
}

TEST_CASE("evaluation sets of the three kinds") {
  const Config c = parsed(
      "eval:\n  sets:\n  - {name: lfw, bin: lfw.bin}\n  - {name: mine, folder: d, pairs: p.txt}\n"
      "  - {name: test, data: test.rec, kind: classification}\n  - {name: test2, data: test}\n");
  REQUIRE(c.eval.sets.size() == 4);
  CHECK(c.eval.sets[0] == EvalSetConfig{"lfw", "verification", "lfw.bin", "", "", ""});
  CHECK(c.eval.sets[1] == EvalSetConfig{"mine", "verification", "", "d", "p.txt", ""});
  CHECK(c.eval.sets[2] == EvalSetConfig{"test", "classification", "", "", "", "test.rec"});
  CHECK(c.eval.sets[3].kind == "classification");
}

TEST_CASE("the metric of the best checkpoint follows from the kind of its set") {
  const std::string sets = "eval: {sets: [{name: a, bin: a.bin}, {name: b, data: b.rec}]}\n";
  CHECK(parsed(sets + "checkpoint: {best: {set: a}}").checkpoint.best_metric == "accuracy");
  CHECK(parsed(sets + "checkpoint: {best: {set: b}}").checkpoint.best_metric == "top1");
  CHECK(parsed(sets + "checkpoint: {best: {set: a, metric: tar_at_far.1e-3}}").checkpoint.best_metric ==
        "tar_at_far.1e-3");
}

TEST_CASE("anchors and aliases") {
  const Config c = parsed("model: {embedding_size: &n 256}\nhead: {classes: *n}\n");
  CHECK(c.head.classes == 256);
}

TEST_CASE("an empty section keeps its defaults") { CHECK(parsed("eval:\ntrain:\n  epochs: 2\n").train.epochs == 2); }

TEST_CASE("overrides stand before the file") {
  CHECK(parsed("train: {epochs: 3}", {"train.epochs=5"}).train.epochs == 5);
  CHECK(parsed("", {"train.epochs=5", "train.epochs=6"}).train.epochs == 6);
  CHECK(parsed("", {"data.train=[x.rec, y.rec]"}).data.train == std::vector<std::string>{"x.rec", "y.rec"});
  CHECK(parsed("", {"data.normalize.mean=[1, 2, 3]"}).data.mean == std::vector<double>{1, 2, 3});
  CHECK(parsed("", {"output=runs/a=b"}).output == "runs/a=b");
  CHECK(parse_config("", "f.yaml", {"data.train=x"}).config.data.train.at(0) == "x");
  CHECK(parsed("", {"init.from='none'"}).init.from == "none");

  SECTION("a mapping for a section replaces the keys that it names") {
    const Config c = parsed("optimizer: {momentum: .8, nesterov: true}", {"optimizer={momentum: .7}"});
    CHECK(c.optimizer.momentum == 0.7);
    CHECK(c.optimizer.nesterov);
  }
  SECTION("parts of a value") {
    CHECK(parsed("head: {margin: {m1: 1.2, m2: .1}}", {"head.margin.m2=.3"}).head.margin ==
          MarginConfig{"custom", 1.2, 0.3, 0});
    CHECK(parsed("head: {margin: cosface}", {"head.margin.m3=.35"}).head.margin == MarginConfig{"custom", 1, 0, 0.35});
    CHECK(parsed("model: {backbone: {stem: 8, widths: [8], blocks: [1]}}", {"model.backbone.stem=16"})
              .model.backbone.stem == 16);
  }
}

TEST_CASE("each value knows where it came from") {
  const LoadedConfig loaded = parse_config(
      "output: runs/x\n"
      "data:\n"
      "  train: a.rec\n"
      "  normalize:\n"
      "    mean: 1\n"
      "head:\n"
      "  margin:\n"
      "    m2: .2\n",
      "dir/f.yaml", {"train.epochs=2"});
  CHECK(value_of(loaded, "output").origin == "dir/f.yaml:1");
  CHECK(value_of(loaded, "data.train").origin == "dir/f.yaml:3");
  CHECK(value_of(loaded, "data.normalize.mean").origin == "dir/f.yaml:5");
  CHECK(value_of(loaded, "head.margin").origin == "dir/f.yaml:7");
  CHECK(value_of(loaded, "head.margin").value == "{m1: 1, m2: 0.2, m3: 0}");
  CHECK(value_of(loaded, "train.epochs").origin == "-o");
  CHECK(value_of(loaded, "train.epochs").value == "2");
  CHECK(value_of(loaded, "seed").origin == "default");
  CHECK(value_of(loaded, "comm.timeout").value == "10min");

  const std::string text = to_annotated_yaml(loaded);
  CHECK(contains_all(text, {"# dir/f.yaml:5", "# -o", "# default"}));
  CHECK(parse_config(text, "again").config == loaded.config);
}

TEST_CASE("a configuration is read from a file") {
  const test::TempFolder folder;
  test::spit(folder / "c.yaml", "data: {train: a.rec}\ntrain: {epochs: 7}\n");
  const LoadedConfig loaded = load_config(folder / "c.yaml");
  CHECK(loaded.config.train.epochs == 7);
  CHECK(value_of(loaded, "train.epochs").origin == (folder / "c.yaml") + ":2");
  CHECK(contains(error_text([&] { load_config(folder / "missing.yaml"); }), folder / "missing.yaml"));
  CHECK(contains(error_text([&] { load_config(folder.path()); }), folder.path()));
}
