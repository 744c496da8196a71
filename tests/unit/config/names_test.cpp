// Named backbones, the nearest of some names, and the reference of all keys.
#include <algorithm>
#include <filesystem>
#include <sstream>

#include "config/config.h"
#include "config/fields.h"
#include "config/nearest.h"
#include "support/catch.h"
#include "support/error_text.h"
#include "support/temp_folder.h"

using namespace plsc;
using plsc::test::contains;
using plsc::test::error_text;

TEST_CASE("named backbones are those that their papers and repositories define") {
  CHECK(named_backbone("iresnet100").blocks == std::vector<int64_t>{3, 13, 30, 3});
  CHECK(named_backbone("iresnet200").blocks == std::vector<int64_t>{6, 26, 60, 6});
  CHECK(named_backbone("r50") == named_backbone("iresnet50"));
  CHECK(named_backbone("r50").name == "iresnet50");
  CHECK(named_backbone("resnet34").strides == std::vector<int64_t>{1, 2, 2, 2});
  CHECK_FALSE(named_backbone("resnet34").bottleneck);
  CHECK(named_backbone("resnet152").blocks == std::vector<int64_t>{3, 8, 36, 3});
  CHECK(named_backbone("resnet152").bottleneck);
  CHECK(named_backbone("plsc_resnet50").kind == "plsc");
  CHECK(named_backbone("plsc_resnet50").blocks == std::vector<int64_t>{3, 4, 14, 3});
  CHECK(named_backbone("plsc_resnet100").blocks == std::vector<int64_t>{3, 13, 30, 3});
  CHECK(named_backbone("plsc_resnet101").blocks == std::vector<int64_t>{3, 4, 23, 3});
  CHECK(named_backbone("plsc_resnet152").strides == std::vector<int64_t>{2, 2, 2, 2});
  for (const std::string& name : backbone_names()) CHECK(named_backbone(name).name == name);
  CHECK(backbone_names().size() == 14);
  CHECK(contains(error_text([] { named_backbone("iresnet5O"); }), "did you mean 'iresnet50'?"));
}

TEST_CASE("dropout follows the backbone where no number is given, and is printed as the number that it is") {
  const struct {
    const char* model;
    double dropout;
  } cases[] = {{"{}", 0},
               {"{backbone: r100}", 0},
               {"{backbone: resnet50, dropout: auto}", 0},
               {"{backbone: plsc_resnet100}", 0.4},
               {"{backbone: plsc_resnet50, dropout: auto}", 0.4},
               {"{backbone: plsc_resnet50, dropout: 0}", 0},
               {"{backbone: {kind: plsc, widths: [8], blocks: [1]}}", 0.4},
               {"{backbone: r50, dropout: .25}", 0.25}};
  for (const auto& c : cases) {
    const LoadedConfig loaded = parse_config(std::string("data: {train: a.rec}\nmodel: ") + c.model, "f");
    INFO(c.model);
    CHECK(loaded.config.model.dropout == c.dropout);
    CHECK(contains(to_annotated_yaml(loaded), fmt::format("  dropout: {} ", c.dropout)));
  }
}

TEST_CASE("the default backbone is what its name says") {
  CHECK(ModelConfig{}.backbone == named_backbone("iresnet50"));
}

TEST_CASE("edit distance") {
  CHECK(edit_distance("", "") == 0);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("batchsize", "batch_size") == 1);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("trian", "train") == 1);
  CHECK(edit_distance("Batch-Size", "batch_size") == 0);
  CHECK(nearest("epohcs", {"steps", "epochs"}) == "epochs");
  CHECK(nearest("zzzzzz", {"steps", "epochs"}).empty());
  CHECK(nearest("x", {}).empty());
}

TEST_CASE("every key has a meaning and stands once") {
  std::vector<std::string> keys;
  for (const Field& field : config_fields()) {
    INFO(field.key);
    CHECK_FALSE(field.meaning.empty());
    CHECK_FALSE(field.expected.empty());
    keys.push_back(field.key);
  }
  std::sort(keys.begin(), keys.end());
  CHECK(std::adjacent_find(keys.begin(), keys.end()) == keys.end());
}

TEST_CASE("configs/README.md holds the reference of every key") {
  const std::string text = test::slurp(std::string(PLSC_SOURCE_DIR) + "/configs/README.md");
  // Where this fails after a change of the table: plsc-train config --reference prints the new one.
  std::istringstream lines(config_reference());
  for (std::string line; std::getline(lines, line);) {
    INFO(line);
    CHECK(contains(text, line));
  }
  CHECK(contains(text, config_reference()));
}

TEST_CASE("every recipe of configs/ is valid") {
  int recipes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(PLSC_SOURCE_DIR) + "/configs")) {
    if (entry.path().extension() != ".yaml") continue;
    INFO(entry.path());
    CHECK(error_text([&] { load_config(entry.path()); }).empty());
    ++recipes;
  }
  CHECK(recipes >= 5);
}

TEST_CASE("the example of the front page is valid") {
  const std::string text = test::slurp(std::string(PLSC_SOURCE_DIR) + "/README.md");
  const size_t begin = text.find("```yaml\n");
  REQUIRE(begin != std::string::npos);
  const std::string yaml = text.substr(begin + 8, text.find("```", begin + 8) - begin - 8);
  CHECK(std::count(yaml.begin(), yaml.end(), '\n') == 5);
  CHECK(error_text([&] { parse_config(yaml, "README.md"); }).empty());
}
