// .rec files as sources: InsightFace's layout, im2rec's, with and without .idx, damaged in many ways.
#include <algorithm>
#include <set>

#include "data/record_index.h"
#include "data/record_pack.h"
#include "data/record_source.h"
#include "data_support.h"

using namespace plsc;
using namespace plsc::test;

namespace {

/// A .rec with its .idx, record by record.
class Builder {
 public:
  explicit Builder(const std::string& path) : path_(path), writer_(path) {}
  void image(int64_t key, float label, uint64_t id2 = 0) {
    add(key, {0, label, static_cast<uint64_t>(key), id2}, {}, small_png(static_cast<int>(key % 1000)));
  }
  void no_image(int64_t key, std::vector<float> labels) {
    add(key, {static_cast<uint32_t>(labels.size()), 0, static_cast<uint64_t>(key), 0}, labels, {});
  }
  void add(int64_t key, RecordHeader header, const std::vector<float>& labels, const std::vector<uint8_t>& bytes) {
    idx_ += fmt::format("{}\t{}\n", key, writer_.append(header, labels, bytes));
  }
  void finish(bool with_idx) {
    writer_.publish();
    if (with_idx) std::ofstream(sibling_path(path_, ".idx"), std::ios::binary) << idx_;
  }

 private:
  std::string path_, idx_;
  RecordWriter writer_;
};

std::vector<std::pair<std::string, int64_t>> samples(const DataSource& source) {
  std::vector<std::pair<std::string, int64_t>> all;
  for (int64_t i = 0; i < source.size(); ++i) {
    const RawSample sample = source.read(i);
    REQUIRE(sample.label == source.label(i));
    REQUIRE(sample.encoded == small_png(static_cast<int>(std::stoll(source.name(i)) % 1000)));
    all.emplace_back(source.name(i), sample.label);
  }
  return all;
}

using Expected = std::vector<std::pair<std::string, int64_t>>;

}  // namespace

TEST_CASE("InsightFace's layout: header and identities are no samples") {
  const TempFolder folder;
  const bool with_idx = GENERATE(true, false);
  const bool header_last = GENERATE(false, true);  // some of their scripts write record 0 at the end
  Builder b(folder / "train.rec");
  if (!header_last) b.no_image(0, {5, 8});
  b.image(1, 0);
  b.image(2, 0);
  b.image(3, 1);
  b.image(4, 2);
  b.no_image(5, {1, 3});
  b.no_image(6, {3, 4});
  b.no_image(7, {4, 5});
  if (header_last) b.no_image(0, {5, 8});
  b.finish(with_idx);
  const auto source = open_record_source(folder / "train.rec", nullptr);
  CHECK(samples(*source) == Expected{{"1", 0}, {"2", 0}, {"3", 1}, {"4", 2}});
  CHECK(source->classes() == 3);
  CHECK(contains(source->read(2).where, "train.rec, offset "));
  CHECK(contains(source->read(2).where, ", key 3"));
}

TEST_CASE("im2rec's layout: every key is a sample, key 0 too") {
  const TempFolder folder;
  const bool with_idx = GENERATE(true, false);
  Builder b(folder / "train.rec");
  b.image(0, 4);
  b.image(1, 2);
  b.image(2, 0, 77);
  b.add(3, {2, 0, 3, 0}, {1, 9}, small_png(3));  // two labels, and an image
  b.finish(with_idx);
  const auto source = open_record_source(folder / "train.rec", nullptr);
  CHECK(samples(*source) == Expected{{"0", 4}, {"1", 2}, {"2", 0}, {"3", 1}});
  CHECK(source->classes() == 5);
}

TEST_CASE("the order is that of the keys, with gaps, and the .idx need not be sorted") {
  const TempFolder folder;
  const bool with_idx = GENERATE(true, false);
  Builder b(folder / "train.rec");
  for (const int key : {12, 3, 7, 40}) b.image(key, static_cast<float>(key % 3));
  b.finish(with_idx);
  const auto source = open_record_source(folder / "train.rec", nullptr);
  CHECK(samples(*source) == Expected{{"3", 0}, {"7", 1}, {"12", 0}, {"40", 1}});
}

TEST_CASE("without .idx and with ids that repeat, the position is the key") {
  const TempFolder folder;
  Builder b(folder / "train.rec");
  for (int i = 0; i < 3; ++i) b.add(0, {0, static_cast<float>(i), 0, 0}, {}, small_png(i));
  b.finish(false);
  const auto source = open_record_source(folder / "train.rec", nullptr);
  CHECK(samples(*source) == Expected{{"0", 0}, {"1", 1}, {"2", 2}});
}

TEST_CASE("above 2^24 images the header's float is rounded; the records decide") {
  const TempFolder folder;
  Builder b(folder / "train.rec");
  // Images end at key 16777220, so the header should say 16777221: a float makes 16777220 of it.
  b.no_image(0, {16777221.0f, 16777223.0f});
  b.image(16777219, 0);
  b.image(16777220, 1);
  b.no_image(16777221, {1, 2});
  b.no_image(16777222, {2, 3});
  b.finish(true);
  const auto source = open_record_source(folder / "train.rec", nullptr);
  CHECK(samples(*source) == Expected{{"16777219", 0}, {"16777220", 1}});
  CHECK(source->classes() == 2);
}

TEST_CASE("property says how many classes, and a label beyond is named") {
  const TempFolder folder;
  Builder b(folder / "train.rec");
  b.image(0, 0);
  b.image(1, 3);
  b.finish(true);
  folder.write("property", std::string("10,6,5\n"));
  CHECK(open_record_source(folder / "train.rec", nullptr)->classes() == 10);
  folder.write("property", std::string("3,6,5\n2\n"));
  const auto source = open_record_source(folder / "train.rec", nullptr);
  const std::string error = error_of([&] { source->read(1); });
  CHECK(contains(error, "key 1"));
  CHECK(contains(error, "label 3 is out of range"));
  CHECK(source->read(0).label == 0);
  folder.write("property", std::string("many"));
  CHECK(contains(error_of([&] { open_record_source(folder / "train.rec", nullptr); }), "property"));
}

TEST_CASE("a negative or broken label is named by its record") {
  const TempFolder folder;
  Builder b(folder / "train.rec");
  b.image(0, 0);
  b.image(1, -2);
  b.finish(GENERATE(true, false));
  folder.write("property", std::string("3,6,5\n"));
  const auto source = open_record_source(folder / "train.rec", nullptr);
  const std::string error = error_of([&] { source->read(1); });
  CHECK(contains(error, "key 1"));
  INFO(error);
  CHECK(contains(error, "-2"));
}

TEST_CASE("an .idx that does not fit its .rec is refused") {
  const TempFolder folder;
  Builder b(folder / "train.rec");
  for (int i = 0; i < 4; ++i) b.image(i, 0);
  b.finish(true);
  const auto open = [&] { open_record_source(folder / "train.rec", nullptr); };
  const std::string idx = read_text(folder / "train.idx");
  const auto whole = read_bytes(folder / "train.rec");
  CHECK(error_of(open) == "");
  SECTION("the .rec is cut off") {
    folder.write("train.rec", std::vector<uint8_t>(whole.begin(), whole.end() - 20));
    CHECK(contains(error_of(open), "train.rec"));
    folder.write("train.rec", std::vector<uint8_t>(whole.begin(), whole.begin() + 100));
    CHECK(contains(error_of(open), "train.rec"));
  }
  SECTION("entries are missing at its end") {
    folder.write("train.idx", idx.substr(0, idx.rfind('\n', idx.size() - 2) + 1));
    CHECK(contains(error_of(open), "train.idx"));
  }
  SECTION("an offset is beyond the file, or odd") {
    folder.write("train.idx", idx + "9\t100000\n");
    CHECK(contains(error_of(open), "100000"));
    folder.write("train.idx", idx + "9\t42\n");
    CHECK(contains(error_of(open), "42"));
  }
  SECTION("a key stands twice") {
    folder.write("train.idx", idx + "2\t0\n");
    CHECK(contains(error_of(open), "key 2 stands twice"));
  }
  SECTION("a line is no entry") {
    folder.write("train.idx", idx + "here\tthere\n");
    CHECK(contains(error_of(open), "train.idx:5"));
  }
  SECTION("it is empty") {
    folder.write("train.idx", std::string("\n"));
    CHECK(contains(error_of(open), "no entry"));
  }
}

TEST_CASE("cut off at every byte, a .rec without .idx is an error; so is an empty one") {
  const TempFolder folder;
  Builder b(folder / "whole.rec");
  b.no_image(0, {3, 4});
  b.image(1, 0);
  b.image(2, 0);
  b.no_image(3, {1, 3});
  b.finish(false);
  const auto whole = read_bytes(folder / "whole.rec");
  std::set<size_t> ends;  // where a record ends, the rest is a smaller whole file
  const RecordFile file(folder / "whole.rec");
  for (int64_t at = 0; at < file.size(); at = file.peek({at}).next) ends.insert(static_cast<size_t>(at));
  for (size_t cut = 0; cut < whole.size(); ++cut) {
    const std::string path =
        folder.write("cut.rec", std::vector<uint8_t>(whole.begin(), whole.begin() + static_cast<long>(cut)));
    const std::string error = error_of([&] {
      const auto source = open_record_source(path, nullptr);
      for (int64_t i = 0; i < source->size(); ++i) source->read(i);
    });
    const auto next_end = ends.lower_bound(cut);
    const bool padding_alone = next_end != ends.end() && *next_end - cut <= 3 && *next_end - cut > 0;
    const bool images = cut > *std::next(ends.begin(), 1);
    if (!images || (ends.count(cut) == 0 && !padding_alone)) CHECK(contains(error, "cut.rec"));
    if (ends.count(cut) != 0 && cut >= *std::next(ends.begin(), 2)) CHECK(error == "");
  }
}

TEST_CASE("a damaged record in the middle is named, the others are read") {
  const TempFolder folder;
  Builder b(folder / "train.rec");
  for (int i = 0; i < 5; ++i) b.image(i, 1);
  b.finish(true);
  const RecordFile file(folder / "train.rec");
  int64_t at = file.peek({0}).next;
  at = file.peek({at}).next;
  auto bytes = read_bytes(folder / "train.rec");
  std::fill_n(bytes.begin() + at, 4, uint8_t{0});
  folder.write("train.rec", bytes);
  folder.write("property", std::string("2,6,5\n"));
  const auto source = open_record_source(folder / "train.rec", nullptr);
  const std::string error = error_of([&] { source->read(2); });
  CHECK(contains(error, fmt::format("train.rec, offset {}, key 2", at)));
  CHECK(source->read(1).label == 1);
  CHECK(source->read(3).label == 1);

  std::vector<std::string> damage;
  const RecordIndex index = RecordIndex::open(RecordFile(folder / "train.rec"), nullptr, &damage, true);
  CHECK(index.size() == 4);
  REQUIRE(damage.size() == 1);
  CHECK(contains(damage[0], fmt::format("offset {}", at)));
}

TEST_CASE("what pack writes is read back: labels, names, bytes") {
  const TempFolder folder;
  std::set<std::pair<int64_t, std::vector<uint8_t>>> expected;
  for (int c = 0; c < 4; ++c) {
    for (int i = 0; i < 3; ++i) {
      folder.write(fmt::format("images/class{}/{}.png", c, i), small_png(10 * c + i));
      expected.insert({c, small_png(10 * c + i)});
    }
  }
  const auto images = open_source(std::vector<std::string>{folder / "images"});
  PackOptions options;
  options.output = folder / "out/train.rec";
  options.shuffle = GENERATE(true, false);
  const PackResult result = pack_records(*images, options, nullptr);
  CHECK(result.images == 12);
  if (GENERATE(true, false)) std::filesystem::remove(folder / "out/train.idx");
  if (GENERATE(true, false)) {
    std::filesystem::remove(folder / "out/property");
    std::filesystem::remove(folder / "out/train.property");
  }
  const auto source = open_record_source(options.output, nullptr);
  REQUIRE(source->size() == 12);
  CHECK(source->classes() == 4);
  CHECK(source->class_names() == images->class_names());
  std::set<std::pair<int64_t, std::vector<uint8_t>>> found;
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < 12; ++i) {
    found.insert({source->label(i), source->read(i).encoded});
    labels.push_back(source->label(i));
  }
  CHECK(found == expected);
  CHECK(std::is_sorted(labels.begin(), labels.end()) == !options.shuffle);

  const RecordFile file(options.output);
  const RecordPeek first = file.peek({0});
  CHECK((first.image_bytes == 0) == !options.shuffle);
  if (!options.shuffle) {
    const auto payload = file.read({0});
    CHECK(file.parse(payload, {0}).labels == std::vector<float>{13, 17});
  }
  const RecordPeek image = options.shuffle ? first : file.peek({first.next});
  CHECK(image.header.id2 == static_cast<uint64_t>(image.first_label) + 1);
}

TEST_CASE("headers are found among records of every size, in any order") {
  const TempFolder folder;
  const bool with_idx = GENERATE(true, false);
  Builder b(folder / "train.rec");
  constexpr int kRecords = 3000;
  for (int k = 0; k < kRecords; ++k) {
    // Small ones in runs, single large ones between them, and some whose image holds the magic number.
    std::vector<uint8_t> image = small_png(k % 7);
    image.resize(image.size() + (k % 500 == 499 ? 300000 : k % 40));
    if (k % 11 == 0) image.insert(image.begin() + 8, {0x0a, 0x23, 0xd7, 0xce});
    b.add(k, {0, static_cast<float>(k % 100), static_cast<uint64_t>(k), 0}, {}, image);
  }
  b.finish(with_idx);
  const auto source = open_record_source(folder / "train.rec", nullptr);
  REQUIRE(source->size() == kRecords);
  CHECK(source->classes() == 100);
  CHECK(source->first_label_beyond(100, 0, kRecords, nullptr) == -1);
  CHECK(source->first_label_beyond(99, 0, kRecords, nullptr) == 99);
  CHECK(source->first_label_beyond(99, 100, 199, nullptr) == -1);
  CHECK(source->first_label_beyond(50, 1234, kRecords, nullptr) == 1250);
  CHECK(source->first_label_beyond(50, 7, 7, nullptr) == -1);

  const RecordFile file(folder / "train.rec");
  const RecordIndex index = RecordIndex::open(file, nullptr);
  RecordWindow window;
  for (int64_t i = index.size(); i-- > 0;) {
    REQUIRE(file.peek(index.place(i), window).header.label == file.peek(index.place(i)).header.label);
  }
}

TEST_CASE("a label that cannot be read is left to whoever reads the record") {
  const TempFolder folder;
  Builder b(folder / "train.rec");
  b.image(0, 2);
  b.image(1, 0.5f);
  b.image(2, 5);
  b.finish(true);
  const auto source = open_record_source(folder / "train.rec", nullptr);
  CHECK(source->classes() == 6);
  CHECK(source->first_label_beyond(3, 0, 3, nullptr) == 2);
  CHECK(contains(error_of([&] { source->read(1); }), "the label is 0.5"));

  Builder none(folder / "none.rec");
  none.image(0, -1);
  none.finish(true);
  CHECK(contains(error_of([&] { open_record_source(folder / "none.rec", nullptr); }), "none.rec, offset 0, key 0"));
}

TEST_CASE("of several files the first label beyond is found in its own") {
  const TempFolder folder;
  for (const std::string name : {"a", "b"}) {
    Builder b(folder / (name + ".rec"));
    for (int i = 0; i < 10; ++i) b.image(i, static_cast<float>(name == "a" ? i % 3 : i));
    b.finish(true);
  }
  const auto source = open_source(std::vector<std::string>{folder / "a.rec", folder / "b.rec"});
  CHECK(source->first_label_beyond(10, 0, 20, nullptr) == -1);
  CHECK(source->first_label_beyond(8, 0, 20, nullptr) == 18);
  CHECK(source->first_label_beyond(2, 0, 20, nullptr) == 2);
  CHECK(source->first_label_beyond(2, 9, 20, nullptr) == 12);
  CHECK(source->first_label_beyond(8, 0, 18, nullptr) == -1);
}

TEST_CASE("packing beside another .rec leaves that one's number of classes alone") {
  const TempFolder folder;
  for (int c = 0; c < 4; ++c) {
    folder.write(fmt::format("many/{}/a.png", c), small_png(c));
    if (c < 2) folder.write(fmt::format("few/{}/a.png", c), small_png(c, 4, 3));
  }
  const auto pack = [&](const std::string& images, const std::string& name) {
    pack_records(*open_source(std::vector<std::string>{folder / images}), {folder / ("out/" + name)}, nullptr);
  };
  const auto property = [&] { return read_text(folder / "out/property"); };
  const auto classes = [&](const std::string& name) {
    return open_record_source(folder / ("out/" + name), nullptr)->classes();
  };
  pack("many", "train.rec");
  CHECK(property() == "4,6,5\n");
  // As written by InsightFace: the folder's `property` alone.
  if (GENERATE(true, false)) std::filesystem::remove(folder / "out/train.property");
  pack("few", "val.rec");
  CHECK(property() == "4,6,5\n");
  CHECK(classes("train.rec") == 4);
  CHECK(classes("val.rec") == 2);

  // The other way round: `property` is train.rec's where val.rec has its own.
  pack("few", "train.rec");
  CHECK(property() == "2,4,3\n");
  CHECK(classes("val.rec") == 2);
  std::filesystem::remove(folder / "out/val.property");
  pack("many", "train.rec");
  CHECK(property() == "2,4,3\n");
  CHECK(classes("train.rec") == 4);
}

TEST_CASE("packing tells of damage before it begins, and needs only the size of one whole image") {
  const TempFolder folder;
  auto cut = small_png(1);
  cut.resize(40);
  folder.write("images/a/0.png", cut);
  folder.write("images/a/1.png", small_png(2));
  const auto images = open_source(std::vector<std::string>{folder / "images"});
  pack_records(*images, {folder / "out/train.rec"}, nullptr);
  CHECK(read_text(folder / "out/train.property") == "1,6,5\n");
}
