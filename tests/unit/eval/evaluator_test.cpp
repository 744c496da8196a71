// Sets from files to scores: .bin, folder with pairs, classification; on any number of ranks.
#include "eval/evaluator.h"

#include <algorithm>
#include <array>

#include "data/verification_bin.h"
#include "eval/verification.h"
#include "eval_fixture.h"
#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/error_text.h"
#include "support/temp_folder.h"

using namespace plsc;
using namespace plsc::test;

namespace {

// The centre of class c is what PixelNet answers for an image of it.
std::unique_ptr<MarginHead> pixel_head(Context& context, int64_t classes) {
  const HeadConfig config;
  auto head = make_margin_head(context, config, classes, 4);
  head->init();
  for (HeadRows& rows : head->state()) {
    if (rows.name != "centers") continue;
    for (int64_t i = 0; i < rows.rows.dim(0); ++i) {
      const std::array<float, 4> center{80, 10 * static_cast<float>(head->shard().begin + i), 64, 0};
      std::copy(center.begin(), center.end(), rows.rows.data<float>() + 4 * i);
    }
  }
  return head;
}

// An image of class `c`, moved by `off` classes.
PixelSource::Image at_class(int64_t c, int64_t off = 0) { return {80, static_cast<uint8_t>(10 * (c + off)), c}; }

void write_image(const std::string& path, const PixelSource::Image& image) {
  write_file_bytes(path, PixelSource::encoded(image));
}

EvalConfig one_set(EvalSetConfig set) {
  EvalConfig config;
  config.batch_size = 4;
  config.sets = {std::move(set)};
  return config;
}

EvalSetConfig verification_set(const std::string& bin, const std::string& folder, const std::string& pairs) {
  EvalSetConfig set;
  set.name = "pairs";
  set.bin = bin;
  set.folder = folder;
  set.pairs = pairs;
  return set;
}

EvalSetConfig classification_set(const std::string& data) {
  EvalSetConfig set;
  set.name = "val";
  set.kind = "classification";
  set.data = data;
  return set;
}

// On the real CPU backend and head; head_classes 0: without a head.
std::vector<EvalResult> evaluate(int ranks, const EvalConfig& config, int64_t head_classes,
                                 const std::vector<std::string>& names = {}, const DataConfig& data = pixel_data()) {
  std::vector<EvalResult> results;
  run_ranks(ranks, [&](ThreadRank& self) {
    CpuContext cpu(self);
    PixelNet net;
    const auto head = head_classes > 0 ? pixel_head(cpu.context, head_classes) : nullptr;
    const auto evaluator = make_evaluator(cpu.context, config, data, names);
    auto found = evaluator->run(cpu.context, net, head.get());
    if (self.rank == 0) results = std::move(found);
  });
  return results;
}

// Twelve images in a folder, and thirty pairs among them.
struct PairFolder {
  PairFolder() {
    std::filesystem::create_directories(temp / "images");
    std::string text;
    for (int i = 0; i < 12; ++i) {
      write_image(temp / ("images/" + std::to_string(i) + ".png"), {static_cast<uint8_t>(20 * i), 7, 0});
    }
    for (int i = 0; i < 30; ++i) {
      const int a = i * 5 % 12, b = (i * 7 + 3) % 12;
      text += fmt::format("{}.png\t{}.png\t{}\n", a, b, i % 2);
      pairs.push_back({a, b, i % 2 == 1});
    }
    spit(temp / "pairs.txt", text);
  }
  TempFolder temp;
  std::vector<PairList::Pair> pairs;
};

}  // namespace

TEST_CASE("a folder with pairs: each image embedded once, scores as computed by hand") {
  const PairFolder files;
  const EvalConfig config = one_set(verification_set("", files.temp / "images", files.temp / "pairs.txt"));
  std::vector<float> rows;  // what the network answers for an image and its mirror image, added
  for (int i = 0; i < 12; ++i) {
    const float f = static_cast<float>(20 * i), l = 7;
    rows.insert(rows.end(), {f + l, f + l, f * f / 100 + l * l / 100, 0});
  }
  const auto expected = score_pairs(pair_distances(Tensor::from(rows, Shape{12, 4}), files.pairs), files.pairs);
  CHECK(expected.auc > 0.05);
  CHECK(expected.auc < 0.95);  // neither end: the order of the distances matters
  for (int ranks = 1; ranks <= 4; ++ranks) {
    INFO(ranks << " ranks");
    std::atomic<int64_t> images = 0;
    std::vector<std::vector<EvalResult>> of_rank(static_cast<size_t>(ranks));
    on_ranks(ranks, [&](Context& context, int rank) {
      PixelNet net;
      const auto evaluator = make_evaluator(context, config, pixel_data());
      evaluator->require_metric("pairs", "tar_at_far.1e-1");
      CHECK(contains_all(error_text([&] { evaluator->require_metric("pairs", "top1"); }),
                         {"'top1'", "accuracy, auc, tar_at_far.1e-1"}));
      of_rank[static_cast<size_t>(rank)] = evaluator->run(context, net, nullptr);
      images += net.images;
    });
    CHECK(images == 24);  // 12 images and their mirror images, although the pairs name 60
    for (const auto& results : of_rank) {
      REQUIRE(results.size() == 1);
      const EvalResult& r = results[0];
      CHECK(r.set == "pairs");
      CHECK(r.images == 12);
      CHECK(r.accuracy == expected.accuracy);
      CHECK(r.accuracy_std == expected.accuracy_std);
      CHECK(r.auc == expected.auc);
      CHECK(r.threshold == expected.threshold);
      CHECK(r.tar_at_far == expected.tar_at_far);
      CHECK(r.roc_far.empty() == (&results != &of_rank[0]));
      CHECK(r.metric("accuracy") == r.accuracy);
      CHECK(r.metric("tar_at_far.1e-1") == r.tar_at_far.at("1e-1"));
    }
  }
}

TEST_CASE("a .bin: images of another size are scaled, as InsightFace does") {
  const TempFolder temp;
  VerificationBin bin;
  for (int i = 0; i < 40; ++i) {
    Pixels p{8, 12, 1, std::vector<uint8_t>(96, static_cast<uint8_t>(i % 4 < 2 ? 40 : 90 + i))};
    if (i % 2 == 0) p.bytes.assign(96, static_cast<uint8_t>(i));
    bin.images.push_back(encode_png(p));
    if (i % 2 == 0) bin.same.push_back(i % 4 == 0 ? 1 : 0);
  }
  save_verification_bin(temp / "set.bin", bin);
  const auto results = evaluate(2, one_set(verification_set(temp / "set.bin", "", "")), 0);
  REQUIRE(results.size() == 1);
  CHECK(results[0].images == 40);
  CHECK(results[0].accuracy > 0);
}

TEST_CASE("classification: top 1 and top 5 over all ranks") {
  const TempFolder temp;
  std::string list;
  for (int i = 0; i < 41; ++i) {
    const int64_t label = i % 8, off = i < 20 ? 0 : i < 30 ? 2 : 8;  // right, second or so, far away
    write_image(temp / (std::to_string(i) + ".png"), at_class(label, off));
    list += fmt::format("{}.png {}\n", i, label);
  }
  spit(temp / "list.txt", list);
  for (int ranks = 1; ranks <= 4; ++ranks) {
    const auto results = evaluate(ranks, one_set(classification_set(temp / "list.txt")), 17);
    REQUIRE(results.size() == 1);
    CHECK(results[0].images == 41);
    CHECK(results[0].top1 == Approx(20.0 / 41));
    CHECK(results[0].top5 == Approx(30.0 / 41));
    CHECK(results[0].metric("top5") == results[0].top5);
  }
  const auto few = evaluate(1, one_set(classification_set(temp / "list.txt")), 8);  // labels 0 to 7 fit exactly
  CHECK(few[0].top1 >= 20.0 / 41);
  const auto why = [&](int64_t classes) {
    return error_text([&] { evaluate(2, one_set(classification_set(temp / "list.txt")), classes); });
  };
  CHECK(contains_all(why(7), {"'val'", "has label 7", "the head has 7 classes"}));
  CHECK(contains_all(why(0), {"'val'", "needs the class centres"}));
}

TEST_CASE("labels of folders follow the names of the classes, not their places") {
  const TempFolder temp;
  // The head knows a to e; the set has only b and d, whose places would be 0 and 1.
  for (const auto& [name, c] : std::vector<std::pair<std::string, int64_t>>{{"b", 1}, {"d", 3}}) {
    std::filesystem::create_directories(temp / name);
    for (int i = 0; i < 3; ++i) write_image(temp / (name + "/" + std::to_string(i) + ".png"), at_class(c));
  }
  const auto config = one_set(classification_set(temp.path()));
  CHECK(evaluate(2, config, 5, {"a", "b", "c", "d", "e"})[0].top1 == 1);
  CHECK(evaluate(2, config, 5)[0].top1 == 0);
  CHECK(contains_all(error_text([&] { evaluate(1, config, 3, {"a", "b", "c"}); }), {"class 'd'", "3 classes"}));
}

TEST_CASE("what is missing is said at the start, on every rank") {
  const PairFolder files;
  const auto why = [&](const EvalConfig& config) {
    std::atomic<int> told = 0;
    std::string text;
    on_ranks(2, [&](Context& context, int rank) {
      const std::string mine = error_text([&] { make_evaluator(context, config, pixel_data()); });
      if (!mine.empty()) ++told;
      if (rank == 1) text = mine;
    });
    CHECK(told == 2);
    return text;
  };
  CHECK(contains(why(one_set(verification_set(files.temp / "no.bin", "", ""))), "no.bin"));
  CHECK(contains(why(one_set(verification_set("", files.temp / "images", files.temp / "no.txt"))), "no.txt"));
  spit(files.temp / "bad.txt", "0.png 1.png 1\n2.png 99.png 0\n");
  CHECK(contains_all(why(one_set(verification_set("", files.temp / "images", files.temp / "bad.txt"))),
                     {"bad.txt:2", "99.png"}));
  spit(files.temp / "one_kind.txt", "0.png 1.png 1\n2.png 3.png 1\n");
  CHECK(contains_all(why(one_set(verification_set("", files.temp / "images", files.temp / "one_kind.txt"))),
                     {"one_kind.txt", "2 of the same class and 0"}));
  CHECK(contains(why(one_set(classification_set(files.temp / "images"))), "no labels"));
}

TEST_CASE("embeddings that are not finite are an error that names the image") {
  const PairFolder files;
  const EvalConfig config = one_set(verification_set("", files.temp / "images", files.temp / "pairs.txt"));
  DataConfig data = pixel_data();
  data.std = {0};  // (0 - 0) / 0
  CHECK(contains_all(error_text([&] { evaluate(2, config, 0, {}, data); }), {"'pairs'", "not finite", ".png"}));
}
