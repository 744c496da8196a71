// The manifest: back and forth, and what it refuses.
#include "checkpoint/manifest.h"

#include <nlohmann/json.hpp>

#include "checkpoint/block_file.h"
#include "support/catch.h"
#include "support/error_text.h"

using namespace plsc;
using namespace plsc::test;

namespace {

Manifest small() {
  Manifest m;
  m.step = 12;
  m.ranks = 2;
  m.block_bytes = 64;
  m.meta = R"({"lr":0.1,"big":9007199254740993,"text":"ü"})";
  m.files = {{"backbone.safetensors", 100, {1, 0xFFFFFFFFFFFFFFFFu}},
             {"head.0.safetensors", 10, {2}},
             {"head.1.safetensors", 10, {3}}};
  m.tensors.push_back({"backbone", {"w", Shape{2, 3}, Dtype::f32}, false, {}});
  m.tensors[0].parts.push_back({"backbone.safetensors", 0, 0});
  m.tensors.push_back({"head", {"centers", Shape{5, 4}, Dtype::bf16}, true, {}});
  m.tensors[1].parts.push_back({"head.0.safetensors", 0, 3});
  m.tensors[1].parts.push_back({"head.1.safetensors", 3, 5});
  return m;
}

std::string why_not_whole(const Manifest& m) {
  return error_text([&] { m.check_whole("here"); });
}

// The text with another value, and a checksum that fits it: damage that only the checks of the content can find.
std::string forged(const std::string& key, const nlohmann::ordered_json& value) {
  auto j = nlohmann::ordered_json::parse(small().to_text());
  j[key] = value;
  j.erase("manifest_checksum");
  const std::string text = j.dump();
  j["manifest_checksum"] = checksum_text(checksum(std::as_bytes(std::span<const char>(text))));
  return j.dump();
}

std::string why_refused(const std::string& text) {
  return error_text([&] { Manifest::parse(text, "here").check_whole("here"); });
}

}  // namespace

TEST_CASE("a manifest survives its text") {
  const Manifest m = small();
  m.check_whole("here");
  const Manifest n = Manifest::parse(m.to_text(), "here");
  CHECK(n.to_text() == m.to_text());
  CHECK(n.step == 12);
  CHECK(n.files[0].checksums == m.files[0].checksums);
  CHECK(n.meta == m.meta);
  REQUIRE(n.find("head", "centers") != nullptr);
  CHECK(n.find("head", "centers")->sharded);
  CHECK(n.find("head", "centers")->parts[1].row_begin == 3);
  CHECK(n.find("backbone", "centers") == nullptr);
}

TEST_CASE("every cut and nearly every changed byte of a manifest is found") {
  const std::string text = small().to_text();
  for (size_t n = 0; n + 1 < text.size(); n += 7) CHECK_FALSE(why_refused(text.substr(0, n)).empty());
  for (size_t i = 0; i < text.size(); ++i) {
    // White space carries nothing: only there may a change go unnoticed.
    if (text[i] == ' ' || text[i] == '\n') continue;
    std::string changed = text;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    INFO("byte " << i << " of " << text);
    CHECK_FALSE(why_refused(changed).empty());
  }
}

TEST_CASE("a newer format is refused by its number") {
  const std::string text = why_refused(forged("version", 2));
  CHECK(contains_all(text, {"here", "format version 2", "up to 1", "newer"}));
  CHECK(contains(why_refused(R"({"format": "another"})"), "not a checkpoint of plsc-train"));
}

TEST_CASE("a manifest that contradicts itself is refused") {
  CHECK(contains(why_refused(forged("block_bytes", 0)), "blocks of 0 bytes"));
  CHECK(contains(why_refused(forged("block_bytes", int64_t{1} << 40)), "blocks of"));
  CHECK(contains(why_refused(forged("step", -1)), "step -1"));
  CHECK(contains(why_refused(forged("files", nlohmann::ordered_json::array())), "no such file"));
  CHECK_FALSE(why_refused(forged("tensors", 3)).empty());
  Manifest m = small();
  m.files[0].file = "../backbone.safetensors";
  CHECK(contains(why_not_whole(m), "not a plain file name"));
  m = small();
  m.files[0].checksums.pop_back();
  CHECK(contains(why_not_whole(m), "1 checksums"));
  m = small();
  m.tensors[1].parts[1].row_begin = 4;
  CHECK(contains(why_not_whole(m), "rows [4, 5) after row 3"));
  m = small();
  m.tensors[1].parts.pop_back();
  CHECK(contains(why_not_whole(m), "3 of its 5 rows"));
  m = small();
  m.tensors.push_back(m.tensors[0]);
  CHECK(contains(why_not_whole(m), "'w' twice"));
}
