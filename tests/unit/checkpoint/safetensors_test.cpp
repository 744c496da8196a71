// The safetensors header: what we write parses (here, and by an independent reader in Python), and damage is found.
#include "checkpoint/safetensors.h"

#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "checkpoint_fixture.h"
#include "support/catch.h"
#include "support/error_text.h"

using namespace plsc;
using namespace plsc::test;

namespace {

SafetensorsHeader parse(const std::string& file) {
  return parse_safetensors("x.safetensors", static_cast<int64_t>(file.size()),
                           [&](int64_t offset, std::span<std::byte> out) {
                             REQUIRE(offset + static_cast<int64_t>(out.size()) <= static_cast<int64_t>(file.size()));
                             std::memcpy(out.data(), file.data() + offset, out.size());
                           });
}

std::string length_prefix(uint64_t n) {
  std::string s;
  for (int i = 0; i < 8; ++i) s += static_cast<char>(n >> (8 * i) & 0xFF);
  return s;
}

std::string file_of(const std::string& json, size_t data_bytes) {
  return length_prefix(json.size()) + json + std::string(data_bytes, 'x');
}

std::string message(const std::string& json, size_t data_bytes) {
  return error_text([&] { parse(file_of(json, data_bytes)); });
}

}  // namespace

TEST_CASE("a layout parses back to itself, aligned and without gaps") {
  const std::vector<TensorSpec> specs{{"bytes", Shape{3}, Dtype::u8},       {"w", Shape{2, 3}, Dtype::f32},
                                      {"scalar", Shape{}, Dtype::i64},      {"none", Shape{0, 4}, Dtype::f32},
                                      {"half", Shape{5}, Dtype::bf16},      {"f16", Shape{1}, Dtype::f16},
                                      {"name \"é\"", Shape{1}, Dtype::i32}, {"d", Shape{1, 1, 1, 1, 2}, Dtype::f64}};
  const auto layout = layout_safetensors(specs, {{"format", "pt"}, {"k", "v"}});
  const auto& laid = layout.header;
  CHECK(laid.data_begin % 8 == 0);
  CHECK(laid.data_begin == static_cast<int64_t>(layout.prefix.size()));
  int64_t end = laid.data_begin;
  for (const auto& t : laid.tensors) {
    CHECK(t.offset == end);
    CHECK(t.offset % static_cast<int64_t>(dtype_size(t.spec.dtype)) == 0);
    end += t.bytes;
  }
  CHECK(laid.file_bytes == end);

  const auto parsed = parse(layout.prefix + std::string(static_cast<size_t>(end - laid.data_begin), '\0'));
  CHECK(parsed.metadata == laid.metadata);
  REQUIRE(parsed.tensors.size() == specs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    const TensorSpec& spec = specs[layout.source[i]];
    const StoredTensor* found = parsed.find(spec.name);
    REQUIRE(found != nullptr);
    CHECK(found->spec.shape == spec.shape);
    CHECK(found->spec.dtype == spec.dtype);
    CHECK(found->offset == laid.tensors[i].offset);
  }
  CHECK(parsed.find("absent") == nullptr);
}

TEST_CASE("no header is trusted for a size") {
  CHECK(contains(error_text([] { parse("1234"); }), "4 bytes long"));
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  CHECK(message(good, 8).empty());
  for (uint64_t length : {uint64_t{0}, uint64_t{1}, uint64_t{63}, uint64_t{1} << 40, ~uint64_t{0}}) {
    const std::string text =
        error_text([&] { parse(length_prefix(length) + good + std::string(62 - good.size(), 'x')); });
    CHECK(contains_all(text, {"x.safetensors", "a header of", std::to_string(length)}));
  }
  CHECK(contains(message(good, 7), "data_offsets [0, 8] in 7 bytes"));
  CHECK(contains(message(good, 9), "the file at"));
  CHECK(contains(message(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})", 8),
                 "more elements than 64 bits count"));
  CHECK(contains(message(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8), "whole number"));
  CHECK(contains(message(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8), "takes 12"));
  CHECK(contains(message(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8), "data_offsets [8, 0]"));
  CHECK(contains(message(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", 8), "no data_offsets"));
  CHECK(contains(message(R"({"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}})", 8), "type F8_E4M3"));
  CHECK(contains(message(R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,8],"data_offsets":[0,8]}})", 8), "6 dimensions"));
  CHECK(contains(message(R"({"a":{"dtype":"F32")", 8), "not JSON"));
  CHECK(contains(message(R"([1, 2, 3])", 8), "not a JSON object"));
  CHECK(contains(message(R"({"a": 3})", 8), "not an object"));
  CHECK(contains(message("{" + std::string(200, '[') + "}", 8), "damaged"));
}

TEST_CASE("tensors may neither overlap nor leave gaps nor stand twice") {
  const std::string a = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  const auto b = [](int begin, int end) {
    return fmt::format(R"("b":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}})", end - begin, begin, end);
  };
  CHECK(message("{" + a + "," + b(4, 8) + "}", 8).empty());
  CHECK(message("{" + b(4, 8) + "," + a + "}", 8).empty());
  CHECK(message("{" + b(4, 4) + "," + a + "}", 4).empty());
  CHECK(contains_all(message("{" + a + "," + b(3, 8) + "}", 8), {"tensor 'b'", "overlap"}));
  CHECK(contains_all(message("{" + a + "," + b(5, 8) + "}", 8), {"tensor 'b'", "gap"}));
  CHECK(contains(message("{" + a + "," + a + "}", 4), "'a' stands twice"));
}

TEST_CASE("an independent reader takes our files") {
  // Python's standard library alone: the format's description and nothing of ours.
  if (std::system("python3 -c 'import json, struct' >/dev/null 2>&1") != 0) {
    WARN("skipped: no python3");
    return;
  }
  const TempFolder temp;
  const std::string folder = save_known(2, temp.path(), {40, 7, 5});
  const std::string script = std::string(PLSC_SOURCE_DIR) + "/tests/unit/checkpoint/read_safetensors.py";
  for (const char* file : {"backbone.safetensors", "optimizer.safetensors", "head.00000-of-00002.safetensors",
                           "head.00001-of-00002.safetensors", "optimizer.00001-of-00002.safetensors"}) {
    INFO(file);
    CHECK(std::system(("python3 " + script + " " + folder + "/" + file).c_str()) == 0);
  }
}
