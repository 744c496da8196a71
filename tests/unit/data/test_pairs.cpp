// Pair files: ours and LFW's; choosing pairs.
#include "data/pairs.h"

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "data_support.h"

using namespace plsc;
using namespace plsc::test;

namespace {

struct Faces {
  TempFolder folder;
  Faces() {
    for (const char* name : {"Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg", "Bob/Bob_0001.png", "Bob/Bob_0012.jpg"}) {
      folder.write(std::string("images/") + name, small_png(1));
    }
  }
  std::string images() const { return folder / "images"; }
  PairList load(const std::string& text) const { return load_pairs(folder.write("pairs.txt", text), images()); }
  std::string error(const std::string& text) const {
    return error_of([&] { load(text); });
  }
};

/// "Ann_0001.jpg Bob_0001.png 0; ..."
std::string shown(const PairList& list) {
  std::string text;
  for (const auto& p : list.pairs) {
    const auto name = [&](int64_t i) {
      return std::filesystem::path(list.paths[static_cast<size_t>(i)]).filename().string();
    };
    text += fmt::format("{} {} {}; ", name(p.a), name(p.b), p.same ? 1 : 0);
  }
  return text;
}

int64_t classes_of(const std::string& folder) { return open_source(std::vector<std::string>{folder})->classes(); }

}  // namespace

TEST_CASE("LFW's pairs.txt, with and without the line of counts") {
  const Faces faces;
  const std::string pairs = "Ann\t1\t2\nBob\t1\t12\nAnn\t2\tBob\t1\n";
  const std::string expected =
      "Ann_0001.jpg Ann_0002.jpg 1; Bob_0001.png Bob_0012.jpg 1; Ann_0002.jpg Bob_0001.png 0; ";
  CHECK(shown(faces.load("10\t300\n" + pairs)) == expected);
  CHECK(shown(faces.load("500\n" + pairs)) == expected);
  CHECK(shown(faces.load(pairs)) == expected);
  CHECK(shown(faces.load("Ann\t1\t2\n")) == "Ann_0001.jpg Ann_0002.jpg 1; ");
  CHECK(faces.load(pairs).paths.size() == 4);
  CHECK(faces.load(pairs).paths[0] == faces.images() + "/Ann/Ann_0001.jpg");
  CHECK(contains(faces.error("Ann\t1\t2\nAnn\t1\t7\n"), "pairs.txt:2"));
  CHECK(contains(faces.error("Ann\t1\t2\nAnn\t1\t7\n"), "Ann/Ann_0007"));
  CHECK(contains(faces.error("Ann\t1\tBob\t1\nAnn\tx\tBob\t1\n"), "pairs.txt:2"));
}

TEST_CASE("our format: tabs or blanks, comments") {
  const Faces faces;
  CHECK(shown(faces.load(
            "# a comment\nAnn/Ann_0001.jpg\tBob/Bob_0001.png\t0\r\n\nAnn/Ann_0001.jpg Ann/Ann_0002.jpg 1\n")) ==
        "Ann_0001.jpg Bob_0001.png 0; Ann_0001.jpg Ann_0002.jpg 1; ");
  faces.folder.write("images/two words.png", small_png(2));
  CHECK(faces.load("two words.png\tAnn/Ann_0001.jpg\t0\n").pairs.size() == 1);
  CHECK(contains(faces.error("Ann/Ann_0001.jpg Bob/Bob_0001.png 2\n"), "pairs.txt:1"));
  CHECK(contains(faces.error("# c\nAnn/Ann_0001.jpg Bob/Bob_0001.png\n"), "pairs.txt:2"));
  CHECK(contains(faces.error("Ann/Ann_0001.jpg gone.png 1\n"), "gone.png"));
  CHECK(contains(faces.error("# nothing\n"), "no pair"));
  CHECK(contains(error_of([&] { load_pairs("/nowhere.txt", faces.images()); }), "/nowhere.txt"));
  CHECK(contains(error_of([&] { load_pairs(faces.folder / "pairs.txt", "/nowhere"); }), "/nowhere"));
}

TEST_CASE("saved pairs are loaded again") {
  const Faces faces;
  const std::vector<std::string> names{"Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg", "Bob/Bob_0001.png"};
  save_pairs(faces.folder / "p.txt", names, {{0, 1, true}, {2, 0, false}}, "two pairs");
  CHECK(shown(load_pairs(faces.folder / "p.txt", faces.images())) ==
        "Ann_0001.jpg Ann_0002.jpg 1; Bob_0001.png Ann_0001.jpg 0; ");
}

TEST_CASE("chosen pairs: balanced, different, true, a function of the seed") {
  std::vector<int64_t> labels;
  for (int64_t c = 0; c < 50; ++c) {
    for (int64_t i = 0; i <= c % 10; ++i) labels.push_back(c);
  }
  const auto pairs = choose_pairs(labels, 600, 3);
  REQUIRE(pairs.size() == 600);
  std::set<std::pair<int64_t, int64_t>> seen;
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto& p = pairs[i];
    CHECK(p.same == (i % 2 == 0));
    CHECK(p.same == (labels[static_cast<size_t>(p.a)] == labels[static_cast<size_t>(p.b)]));
    CHECK(p.a != p.b);
    CHECK(seen.insert({std::min(p.a, p.b), std::max(p.a, p.b)}).second);
  }
  const auto equal = [&](const std::vector<PairList::Pair>& other) {
    return std::equal(pairs.begin(), pairs.end(), other.begin(), other.end(),
                      [](const auto& x, const auto& y) { return x.a == y.a && x.b == y.b && x.same == y.same; });
  };
  CHECK(equal(choose_pairs(labels, 600, 3)));
  CHECK(!equal(choose_pairs(labels, 600, 4)));
}

TEST_CASE("all the pairs there are, and one more") {
  const std::vector<int64_t> labels{0, 0, 0, 1, 1};  // 4 alike, 6 different
  CHECK(choose_pairs(labels, 8, 1).size() == 8);
  CHECK(contains(error_of([&] { choose_pairs(labels, 10, 1); }), "only 4"));
  // Every pair of twenty images of one class and two others: chance alone would take long for the last.
  std::vector<int64_t> many(20, 0);
  many.push_back(1);
  many.push_back(2);
  CHECK(choose_pairs(many, 82, 1).size() == 82);  // 41 different: 20 + 20 + 1
  CHECK(error_of([&] { choose_pairs(many, 84, 1); }) != "");
}

TEST_CASE("every pair is chosen once where all are wanted") {
  std::vector<int64_t> labels;
  for (const int64_t size : {1, 5, 1, 2, 9, 1}) labels.insert(labels.end(), static_cast<size_t>(size), 7 * size % 5);
  int64_t alike = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    for (size_t j = 0; j < i; ++j) alike += labels[i] == labels[j] ? 1 : 0;
  }
  const auto n = static_cast<int64_t>(labels.size()), fewer = std::min(alike, n * (n - 1) / 2 - alike);
  std::set<std::pair<int64_t, int64_t>> seen;
  for (const auto& p : choose_pairs(labels, 2 * fewer, 2)) {
    CHECK(p.same == (labels[static_cast<size_t>(p.a)] == labels[static_cast<size_t>(p.b)]));
    CHECK(seen.insert({std::min(p.a, p.b), std::max(p.a, p.b)}).second);
  }
  CHECK(static_cast<int64_t>(seen.size()) == 2 * fewer);
}

TEST_CASE("one large class and one image: 5e9 pairs are not listed") {
  std::vector<int64_t> labels(100'000, 0);
  labels.push_back(1);
  const auto pairs = choose_pairs(labels, 2000, 1);  // chance hits the one image once in 50,000 draws
  REQUIRE(pairs.size() == 2000);
  std::set<int64_t> others;
  for (const auto& p : pairs) {
    if (!p.same) others.insert(std::min(p.a, p.b));
  }
  CHECK(others.size() == 1000);
  CHECK(*others.rbegin() - *others.begin() > 90'000);  // from the whole class
}

TEST_CASE("LFW itself, where it is at hand") {
  const std::string tar = shared_data("lfw112.tar");
  if (tar.empty()) {
    WARN("skipped: ../shared/data/lfw112.tar is not there");
    return;
  }
  const TempFolder folder;
  const std::string options = " -C " + folder.path() + " --wildcards ";
  REQUIRE(std::system(("tar xf " + tar + options + "'*.txt' 'images/A*'").c_str()) == 0);
  CHECK(classes_of(folder / "images") > 300);
  // The whole file needs images of people with other letters: the first line that does is named.
  CHECK(contains(error_of([&] { load_pairs(folder / "pairs.txt", folder / "images"); }), "pairs.txt:"));
  // The lines about people with an A alone.
  std::istringstream lines(read_text(folder / "pairs.txt"));
  std::string kept, line;
  int64_t same = 0, other = 0;
  while (std::getline(lines, line)) {
    const auto fields = std::count(line.begin(), line.end(), '\t') + 1;
    const auto second = line.find('\t', line.find('\t') + 1) + 1;
    if (line[0] != 'A' || (fields == 4 && line[second] != 'A')) continue;
    kept += line + "\n";
    ++(fields == 3 ? same : other);
  }
  REQUIRE(same > 50);
  REQUIRE(other > 5);
  const PairList list = load_pairs(folder.write("a.txt", kept), folder / "images");
  CHECK(static_cast<int64_t>(list.pairs.size()) == same + other);
  CHECK(std::count_if(list.pairs.begin(), list.pairs.end(), [](const auto& p) { return p.same; }) == same);
}
