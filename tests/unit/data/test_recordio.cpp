// RecordIO frames and headers, down to the bytes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "data/recordio.h"
#include "data_support.h"

using namespace plsc;
using namespace plsc::test;

namespace {

std::vector<uint8_t> words(std::initializer_list<uint32_t> values) {
  std::vector<uint8_t> bytes(4 * values.size());
  std::memcpy(bytes.data(), std::data(values), bytes.size());
  return bytes;
}

}  // namespace

TEST_CASE("a record is written as the format says, byte for byte") {
  const TempFolder folder;
  RecordWriter writer(folder / "a.rec");
  const std::vector<uint8_t> image{1, 2, 3, 4, 5};
  CHECK(writer.append({0, 2.5f, 7, 9}, {}, image) == 0);
  CHECK(writer.append_payload({}) == 40);
  writer.publish();
  std::vector<uint8_t> expected = words({0xced7230a, 29, 0, 0x40200000 /* 2.5 */, 7, 0, 9, 0});
  for (const int b : {1, 2, 3, 4, 5, 0, 0, 0}) expected.push_back(static_cast<uint8_t>(b));
  const auto empty = words({0xced7230a, 0});
  expected.insert(expected.end(), empty.begin(), empty.end());
  CHECK(read_bytes(folder / "a.rec") == expected);
}

TEST_CASE("payloads that hold the magic number are cut there and joined again") {
  const TempFolder folder;
  const uint32_t m = kRecordMagic;
  std::vector<std::vector<uint8_t>> payloads{
      words({m}), words({m, m}), words({1, m}), words({m, 1}), words({1, m, 2, m, m, 3}), words({1, 2, 3}), {},
  };
  auto odd = words({5, m, 6});
  odd.push_back(9);
  payloads.push_back(odd);
  // Not at a multiple of 4: no cut.
  auto shifted = words({m, m});
  shifted.insert(shifted.begin(), 1);
  payloads.push_back(shifted);
  RecordWriter writer(folder / "m.rec");
  std::vector<int64_t> offsets;
  for (const auto& p : payloads) offsets.push_back(writer.append_payload(p));
  writer.publish();

  const RecordFile file(folder / "m.rec");
  for (size_t i = 0; i < payloads.size(); ++i) {
    CHECK(file.read({offsets[i]}) == payloads[i]);
    const int64_t extent = (i + 1 < payloads.size() ? offsets[i + 1] : file.size()) - offsets[i];
    CHECK(file.read({offsets[i]}, extent) == payloads[i]);
  }
  // One magic number: a first part without content, a last part with none: flags 1 and 3.
  const auto bytes = read_bytes(folder / "m.rec");
  const auto first = words({m, 1u << 29, m, 3u << 29});
  CHECK(std::equal(first.begin(), first.end(), bytes.begin()));
}

TEST_CASE("headers that hold the magic number themselves are read") {
  const TempFolder folder;
  RecordWriter writer(folder / "h.rec");
  const std::vector<uint8_t> image{1, 2, 3};
  writer.append({0, 3, kRecordMagic, 0}, {}, image);
  float odd_label = 0;
  std::memcpy(&odd_label, &kRecordMagic, 4);
  writer.append({1, 0, 5, 0}, std::vector<float>{odd_label}, image);
  writer.publish();
  const RecordFile file(folder / "h.rec");
  const RecordPeek peek = file.peek({0});
  CHECK(peek.header.id == kRecordMagic);
  CHECK(peek.first_label == 3);
  CHECK(peek.image_bytes == 3);
  const RecordPeek second = file.peek({peek.next});
  CHECK(second.first_label == odd_label);
  CHECK(second.next == file.size());
}

TEST_CASE("several labels: the first counts") {
  const TempFolder folder;
  RecordWriter writer(folder / "l.rec");
  writer.append({3, 99, 1, 0}, std::vector<float>{4, 5, 6}, std::vector<uint8_t>{1});
  writer.publish();
  const RecordFile file(folder / "l.rec");
  CHECK(file.peek({0}).first_label == 4);
  const auto payload = file.read({0});
  const ParsedRecord record = file.parse(payload, {0});
  CHECK(record.labels == std::vector<float>{4, 5, 6});
  CHECK(record.image.size() == 1);
}

TEST_CASE("labels: id2 is believed where it agrees with the float") {
  CHECK(record_label({0, 7, 0, 0}, 7, "x") == 7);
  CHECK(record_label({0, 7, 0, 8}, 7, "x") == 7);
  CHECK(record_label({0, 7, 0, 123}, 7, "x") == 7);  // somebody else's id2
  // 2^24 + 1 is no float; its neighbour 2^24 is what the file holds.
  CHECK(record_label({0, 16777216.0f, 0, 16777218}, 16777216.0f, "x") == 16777217);
  CHECK(record_label({0, 16777216.0f, 0, 0}, 16777216.0f, "x") == 16777216);
  for (const float bad : {-1.0f, 0.5f, NAN, INFINITY, 3e9f}) {
    CHECK(contains(error_of([&] { record_label({0, bad, 0, 0}, bad, "a.rec, key 3"); }), "a.rec, key 3"));
  }
}

TEST_CASE("a file cut off at any byte is an error that names it, never a crash") {
  const TempFolder folder;
  RecordWriter writer(folder / "w.rec");
  std::vector<int64_t> offsets;
  for (uint32_t i = 0; i < 3; ++i) {
    auto image = words({i, kRecordMagic, 7});
    image.push_back(1);
    offsets.push_back(writer.append({2, 0, i, 0}, std::vector<float>{1, 2}, image));
  }
  writer.publish();
  const auto whole = read_bytes(folder / "w.rec");
  for (size_t cut = 0; cut < whole.size(); ++cut) {
    const std::string path =
        folder.write("cut.rec", std::vector<uint8_t>(whole.begin(), whole.begin() + static_cast<long>(cut)));
    const RecordFile file(path);
    const std::string error = error_of([&] {
      const auto payload = file.read({offsets[2], 2});
      file.parse(payload, {offsets[2], 2});
    });
    const std::string peeked = error_of([&] { file.peek({offsets[2], 2}); });
    // The padding of the last record may be missing.
    if (cut + 3 >= whole.size()) continue;
    CHECK(contains(error, "cut.rec"));
    CHECK(contains(error, fmt::format("offset {}, key 2", offsets[2])));
    CHECK(contains(peeked, "cut.rec"));
  }
}

TEST_CASE("every single damaged byte of a record is an error or a read, never a crash") {
  const TempFolder folder;
  RecordWriter writer(folder / "w.rec");
  writer.append({2, 0, 1, 0}, std::vector<float>{1, 2}, words({1, kRecordMagic, 7}));
  writer.append({0, 1, 2, 0}, {}, words({1}));
  writer.publish();
  const auto whole = read_bytes(folder / "w.rec");
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      auto bytes = whole;
      bytes[i] = static_cast<uint8_t>(bytes[i] ^ flip);
      const RecordFile file(folder.write("bad.rec", bytes));
      error_of([&] {
        const auto payload = file.read({0, 0}, 52);
        file.parse(payload, {0, 0});
      });
      error_of([&] { file.peek({0}); });
    }
  }
}

TEST_CASE("after damage the next whole record is found") {
  const TempFolder folder;
  RecordWriter writer(folder / "w.rec");
  std::vector<int64_t> offsets;
  for (uint32_t i = 0; i < 4; ++i) offsets.push_back(writer.append({0, 1, i, 0}, {}, words({i, i, i})));
  writer.publish();
  auto bytes = read_bytes(folder / "w.rec");
  std::fill_n(bytes.begin() + offsets[1], 12, uint8_t{0});
  const RecordFile file(folder.write("bad.rec", bytes));
  CHECK(error_of([&] { file.peek({offsets[1], 1}); }) != "");
  CHECK(file.resync(offsets[1]) == offsets[2]);
  CHECK(file.resync(offsets[3] + 4) == file.size());
}
