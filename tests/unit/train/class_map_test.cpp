// Which stored centre each class goes on with, where classes came, went, moved or have another name.
#include <numeric>

#include "support/catch.h"
#include "support/error_text.h"
#include "train/class_map.h"

namespace plsc::test {
namespace {

using Names = std::vector<std::string>;
using Ids = std::vector<int64_t>;

ClassMap by_name(const Names& before, const Names& now, const std::string& mapping = "",
                 Leaving leaving = Leaving::error) {
  const ClassMapping file{mapping.empty() ? "" : "map.tsv", mapping};
  return map_classes({static_cast<int64_t>(before.size()), before}, {static_cast<int64_t>(now.size()), now},
                     {file, leaving, "step_7"});
}
ClassMap by_number(int64_t before, int64_t now, const std::string& mapping = "", Leaving leaving = Leaving::error) {
  const ClassMapping file{mapping.empty() ? "" : "map.tsv", mapping};
  return map_classes({before, {}}, {now, {}}, {file, leaving, "step_7"});
}

TEST_CASE("the same classes need no map") {
  CHECK(by_name({"a", "b"}, {"a", "b"}).same());
  CHECK(by_number(5, 5).same());
  // A mapping that changes nothing.
  CHECK(by_name({"a", "b"}, {"a", "b"}, "a\ta\n").same());
}

TEST_CASE("a class that came between others moves their numbers, not their centres") {
  const ClassMap map = by_name({"a", "c", "d"}, {"a", "b", "c", "d"});
  CHECK(map.from == Ids{0, -1, 1, 2});
  CHECK(map.added == 1);
  CHECK(map.moved == 2);
  CHECK(map.left == 0);
  CHECK(by_name({"a", "b"}, {"b", "a"}).from == Ids{1, 0});
}

TEST_CASE("without names classes keep their numbers, and new ones stand behind them") {
  CHECK(by_number(2, 4).from == Ids{0, 1, -1, -1});
  // One side's names alone tell nothing.
  const Names names{"a", "b", "c"};
  const ClassMap map = map_classes({2, {}}, {3, names}, {{}, Leaving::error, "step_7"});
  CHECK(map.from == Ids{0, 1, -1});
}

TEST_CASE("a class is lost only where that is said") {
  const std::string text = error_text([] { by_name({"a", "b", "c"}, {"a", "d"}); });
  CHECK(contains_all(text, {"step_7", "2 class(es)", "'b', 'c'", "head.class_map"}));
  CHECK(contains_all(error_text([] { by_number(9, 4); }), {"5 class(es)", "'4', '5', '6', ..."}));
  CHECK(by_name({"a", "b", "c"}, {"a", "d"}, "", Leaving::allowed).from == Ids{0, -1});
  const ClassMap map = by_name({"a", "b", "c"}, {"a", "d"}, "# gone\nb\t-\r\n\nc\td\n");
  CHECK(map.from == Ids{0, 2});
  CHECK(map.left == 1);
  CHECK(map.moved == 1);
  CHECK(by_number(4, 3, "3\t0\n0\t-\n").from == Ids{3, 1, 2});
}

TEST_CASE("names may change places") { CHECK(by_name({"a", "b"}, {"a", "b"}, "a\tb\nb\ta\n").from == Ids{1, 0}); }

TEST_CASE("a class whose name another one takes must go somewhere") {
  // b becomes a: what was a is in nobody's place.
  CHECK(contains_all(error_text([] {
                       by_name({"a", "b"}, {"a"}, "b\ta\n");
                     }),
                     {"map.tsv:1: class 'a' is to go on from 'b', but step_7 has a 'a' of its own", "OLD<TAB>-"}));
  CHECK(by_name({"a", "b"}, {"a"}, "b\ta\na\t-\n").from == Ids{1});
}

TEST_CASE("places behind the names hold no class, and go on with their numbers") {
  const Names before{"a", "b"}, now{"a", "b", "c"};
  const ClassMap same = map_classes({6, before}, {6, now}, {{}, Leaving::error, "step_7"});
  CHECK(same.from == Ids{0, 1, -1, 3, 4, 5});
  CHECK(same.added == 1);
  CHECK(same.left == 0);
  const ClassMap more = map_classes({4, before}, {6, before}, {{}, Leaving::error, "step_7"});
  CHECK(more.from == Ids{0, 1, 2, 3, -1, -1});
  CHECK(more.added == 2);
  const ClassMap fewer = map_classes({4, before}, {2, before}, {{}, Leaving::error, "step_7"});
  CHECK(fewer.from == Ids{0, 1});
  CHECK(fewer.left == 0);
}

TEST_CASE("a line that fits nothing is named with its number") {
  const auto error = [](const std::string& mapping) {
    return error_text([&] { by_name({"a", "b"}, {"a", "b"}, mapping); });
  };
  CHECK(contains_all(error("a\ta\nno columns\n"), {"map.tsv:2", "no columns", "OLD<TAB>NEW"}));
  CHECK(contains_all(error("x\ta\n"), {"map.tsv:1", "no class 'x'", "checkpoint"}));
  CHECK(contains_all(error("a\tx\n"), {"map.tsv:1", "no class 'x'", "data.train"}));
  CHECK(contains_all(error("a\tb\na\t-\n"), {"map.tsv:2: line 1 is of class 'a', too"}));
  CHECK(contains_all(error("a\tb\nb\tb\n"), {"map.tsv:2", "already goes on from 'a', by line 1"}));
  const auto numbers = [](const std::string& mapping) { return error_text([&] { by_number(3, 3, mapping); }); };
  for (const char* word : {"3", "-1", "1x", "", "99999999999999999999"}) {
    CHECK(contains_all(numbers(std::string(word) + "\t0\n"), {"map.tsv:1", "no class"}));
  }
}

}  // namespace
}  // namespace plsc::test
