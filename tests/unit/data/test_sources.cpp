// Image folders, list files, several of them as one, synthetic images.
#include "data/source.h"
#include "data_support.h"

using namespace plsc;
using namespace plsc::test;

namespace {

std::unique_ptr<DataSource> open(const std::vector<std::string>& paths) { return open_source(paths); }

std::vector<std::pair<std::string, int64_t>> labelled(const DataSource& source) {
  std::vector<std::pair<std::string, int64_t>> all;
  for (int64_t i = 0; i < source.size(); ++i) all.emplace_back(source.name(i), source.label(i));
  return all;
}
using Expected = std::vector<std::pair<std::string, int64_t>>;

}  // namespace

TEST_CASE("an image folder: classes are sub-folders in bytewise order") {
  const TempFolder folder;
  folder.write("b/2.png", small_png(1));
  folder.write("b/10.JPG", small_png(2));
  folder.write("B/x.png", small_png(3));
  folder.write("a/deep/y.png", small_png(4));
  folder.write("a/notes.txt", std::string("no image"));
  folder.write("a/.png", std::string("a hidden file"));
  folder.write("empty/readme", std::string("none"));
  folder.write("loose.png", small_png(5));
  const auto source = open({folder.path()});
  CHECK(labelled(*source) == Expected{{"B/x.png", 0}, {"a/deep/y.png", 1}, {"b/10.JPG", 2}, {"b/2.png", 2}});
  CHECK(source->classes() == 3);
  CHECK(source->class_names() == std::vector<std::string>{"B", "a", "b"});
  CHECK(source->read(3).encoded == small_png(1));
  CHECK(source->read(3).where == folder / "b/2.png");
  CHECK(contains(source->description(), "4 images of 3 classes"));
  CHECK(contains(source->description(), "3 other files ignored"));
  CHECK(contains(source->description(), "1 images outside of any class folder ignored"));
  CHECK(contains(source->description(), "1 folders without images ignored"));
}

TEST_CASE("a folder of images alone has no labels") {
  const TempFolder folder;
  folder.write("2.png", small_png(1));
  folder.write("1.png", small_png(2));
  const auto source = open({folder.path()});
  CHECK(labelled(*source) == Expected{{"1.png", -1}, {"2.png", -1}});
  CHECK(source->classes() == 0);
  CHECK(source->read(0).label == -1);
}

TEST_CASE("many class folders are listed on several threads in the same order") {
  const TempFolder folder;
  for (int c = 0; c < 200; ++c) folder.write(fmt::format("c{:03}/i.png", c), small_png(c));
  const auto source = open({folder.path()});
  REQUIRE(source->size() == 200);
  for (int64_t c = 0; c < 200; ++c) CHECK(source->name(c) == fmt::format("c{:03}/i.png", c));
}

TEST_CASE("data that is not there, or empty, is an error that names it") {
  const TempFolder folder;
  CHECK(contains(error_of([&] { open({folder / "nowhere"}); }), "nowhere"));
  CHECK(contains(error_of([&] { open({folder.path()}); }), "no image"));
  folder.write("a/readme", std::string("x"));
  CHECK(contains(error_of([&] { open({folder.path()}); }), folder.path()));
  CHECK(contains(error_of([&] { open({folder.write("list.txt", std::string("\n# only this\n"))}); }), "empty"));
  CHECK(contains(error_of([&] { open({folder.write("train.rec", std::string())}); }), "train.rec"));
  CHECK(contains(error_of([&] { open({folder.write("photo.png", small_png(1))}); }), "photo.png"));
  CHECK(contains(error_of([&] { open({}); }), "no data"));
  folder.write("b/gone.png", std::string());
  const auto source = open({folder.path()});
  CHECK(contains(error_of([&] { source->read(0); }), "gone.png"));
}

TEST_CASE("a list file: tabs or blanks, paths with blanks, labels last") {
  const TempFolder folder;
  folder.write("images/one.png", small_png(1));
  const std::string list = folder.write("list.txt", "images/one.png 3\r\n\n# a comment\nimages/two words.png\t0\n" +
                                                        (folder / "images/one.png") + "  1\n  trailing.png 2");
  const auto source = open({list});
  CHECK(labelled(*source) ==
        Expected{
            {"images/one.png", 3}, {"images/two words.png", 0}, {folder / "images/one.png", 1}, {"trailing.png", 2}});
  CHECK(source->classes() == 4);
  CHECK(source->read(0).encoded == small_png(1));
  CHECK(source->read(2).encoded == small_png(1));
  CHECK(contains(error_of([&] { source->read(3); }), folder / "trailing.png"));
}

TEST_CASE("a list without labels") {
  const TempFolder folder;
  const auto source = open({folder.write("list.txt", std::string("a.png\nsome dir/b.png\n"))});
  CHECK(labelled(*source) == Expected{{"a.png", -1}, {"some dir/b.png", -1}});
  CHECK(source->classes() == 0);
}

TEST_CASE("bad lines of a list are named") {
  const TempFolder folder;
  const auto error = [&](const std::string& text) { return error_of([&] { open({folder.write("l.txt", text)}); }); };
  CHECK(contains(error("a.png 0\nb.png -1\n"), "l.txt:2"));
  CHECK(contains(error("a.png 0\nb.png -1\n"), "-1"));
  CHECK(contains(error("a.png 99999999999999999999\n"), "l.txt:1"));
  CHECK(contains(error("a.png 2147483648\n"), "2147483648"));
  CHECK(contains(error("a.png 0\nb.png\n"), "l.txt:2"));
  CHECK(contains(error("a.png\nb.png 1\n"), "l.txt:2"));
  CHECK(contains(error(std::string("\0\1\2binary", 9)), "l.txt:1"));
}

TEST_CASE("folders are merged by class name") {
  const TempFolder folder;
  folder.write("x/b/1.png", small_png(1));
  folder.write("x/d/2.png", small_png(2));
  folder.write("y/a/3.png", small_png(3));
  folder.write("y/b/4.png", small_png(4));
  const auto source = open({folder / "x", folder / "y"});
  CHECK(labelled(*source) == Expected{{"b/1.png", 1}, {"d/2.png", 2}, {"a/3.png", 0}, {"b/4.png", 1}});
  CHECK(source->class_names() == std::vector<std::string>{"a", "b", "d"});
  CHECK(source->classes() == 3);
  CHECK(source->read(3).label == 1);
  CHECK(source->read(3).encoded == small_png(4));
}

TEST_CASE("lists keep their numbers; folders do not mix with them") {
  const TempFolder folder;
  folder.write("x/b/1.png", small_png(1));
  const std::string one = folder.write("1.txt", std::string("a.png 4\n"));
  const std::string two = folder.write("2.txt", std::string("b.png 1\nc.png 4\n"));
  const auto source = open({one, two});
  CHECK(labelled(*source) == Expected{{"a.png", 4}, {"b.png", 1}, {"c.png", 4}});
  CHECK(source->classes() == 5);
  CHECK(error_of([&] { open({folder / "x", one}); }) != "");
  const std::string bare = folder.write("3.txt", std::string("b.png\n"));
  CHECK(contains(error_of([&] { open({one, bare}); }), "labels"));
}

TEST_CASE("synthetic images: a function of the seed, in the size asked for") {
  DataConfig config;
  config.train = {"synthetic"};
  config.synthetic = {7, 20};
  config.image_size = {9, 5};
  const auto source = open_source(config, 3), again = open_source(config, 3), other = open_source(config, 4);
  CHECK(source->size() == 20);
  CHECK(source->classes() == 7);
  CHECK(source->read(8).label == 1);
  CHECK(source->read(8).pixels.size() == 9 * 5 * 3);
  CHECK(source->read(8).pixels == again->read(8).pixels);
  CHECK(source->read(8).pixels != source->read(9).pixels);
  CHECK(source->read(8).pixels != other->read(8).pixels);
  config.train = {"synthetic", "more"};
  CHECK(error_of([&] { open_source(config, 3); }) != "");
}

TEST_CASE("images in memory and by path") {
  const TempFolder folder;
  const auto memory = make_memory_source({small_png(1), small_png(2)}, {5, 0}, "lfw.bin");
  CHECK(memory->classes() == 6);
  CHECK(memory->read(1).encoded == small_png(2));
  CHECK(memory->read(0).label == 5);
  CHECK(contains(memory->read(1).where, "lfw.bin"));
  CHECK(make_memory_source({small_png(1)}, {}, "x")->label(0) == -1);
  CHECK(error_of([] { make_memory_source({small_png(1)}, {-1}, "lfw.bin"); }) != "");
  const std::string path = folder.write("a.png", small_png(1));
  const auto paths = make_path_source({path, folder / "none.png"}, {}, "pairs");
  CHECK(paths->read(0).encoded == small_png(1));
  CHECK(contains(error_of([&] { paths->read(1); }), "none.png"));
}
