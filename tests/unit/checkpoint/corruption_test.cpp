// Damage of every kind is found and named before anything is used.
#include "checkpoint/block_file.h"
#include "checkpoint/folders.h"
#include "checkpoint_fixture.h"
#include "support/catch.h"
#include "support/error_text.h"

using namespace plsc;
using namespace plsc::test;

namespace {

// Opens, reads all on two ranks and verifies: the message of what stops it.
std::string why_unreadable(const std::string& folder, const KnownState& state) {
  return error_text([&] {
    run_ranks(2, [&](ThreadRank& self) {
      FakeContext fake(self);
      const auto reader = CheckpointReader::open(folder);
      reads_back(fake.context, *reader, state);
    });
  });
}

std::string why_not_verified(const std::string& folder) {
  return error_text([&] { CheckpointReader::open(folder)->verify(); });
}

void flip(std::string path, size_t at) {
  std::string bytes = slurp(path);
  REQUIRE(at < bytes.size());
  bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
  spit(path, bytes);
}

}  // namespace

TEST_CASE("a flipped byte anywhere in any file") {
  const TempFolder temp;
  const KnownState state{8, 7, 5};
  const std::string folder = save_known(2, temp.path(), state);
  for (const std::string& name : names_in(folder)) {
    if (name == kManifestName) continue;  // its own test flips every byte
    const std::string path = folder + "/" + name, good = slurp(path);
    for (const size_t at : {size_t{0}, size_t{3}, size_t{20}, good.size() / 2, good.size() - 1}) {
      INFO(name << " byte " << at);
      flip(path, at);
      const std::string text = why_not_verified(folder);
      CHECK(contains_all(text, {path, "block 0", "checksum", "expected", "--resume"}));
      CHECK_FALSE(why_unreadable(folder, state).empty());
      spit(path, good);
    }
  }
  CHECK(why_not_verified(folder).empty());
}

TEST_CASE("a range read checks the blocks that it touches, and no other") {
  const TempFolder temp;
  const int64_t width = 1024;                   // 4 KiB a row
  const int64_t rows = 5 * kBlockBytes / 4096;  // 5 blocks and a header
  const std::string folder = save_known(1, temp.path(), {0, rows, width});
  flip(folder + "/head.00000-of-00001.safetensors", static_cast<size_t>(3 * kBlockBytes + 77));
  const auto reader = CheckpointReader::open(folder);
  run_ranks(1, [&](ThreadRank& self) {
    FakeContext fake(self);
    Tensor one(host_allocator(), Shape{1, width}, Dtype::f32);
    const auto why = [&](int64_t row) {
      return error_text([&] { reader->read_rows(fake.context, "head", "centers", row, one); });
    };
    CHECK(why(0).empty());
    CHECK(why(rows - 1).empty());
    CHECK(why(2 * kBlockBytes / 4096).empty());
    CHECK(contains_all(why(3 * kBlockBytes / 4096 + 9), {"block 3", "head.00000-of-00001"}));
    CHECK(same_bytes(one, one));
  });
  CHECK(contains(why_not_verified(folder), "block 3"));
}

TEST_CASE("a missing, short or long file is seen at once") {
  const TempFolder temp;
  const KnownState state{8, 7, 5};
  const std::string folder = save_known(3, temp.path(), state);
  const auto why = [&] { return error_text([&] { CheckpointReader::open(folder); }); };
  for (const std::string& name : names_in(folder)) {
    INFO(name);
    const std::string path = folder + "/" + name, good = slurp(path);
    spit(path, good.substr(0, good.size() - 1));
    if (name != kManifestName) {
      CHECK(contains_all(why(), {path, "not whole", std::to_string(good.size())}));
      spit(path, good + "x");
      CHECK(contains_all(why(), {path, "not whole"}));
    }
    spit(path, good.substr(0, good.size() / 2));
    CHECK(contains(why(), path));
    std::filesystem::remove(path);
    CHECK(contains_all(why(), {name == kManifestName ? folder : path, "--resume"}));
    spit(path, good);
    CHECK(why().empty());
  }
}

TEST_CASE("a header that lies about its length") {
  const TempFolder temp;
  const std::string folder = save_known(1, temp.path(), {8, 7, 5});
  const std::string path = folder + "/backbone.safetensors";
  std::string bytes = slurp(path);
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(0x7F);
  spit(path, bytes);
  CHECK(contains(error_text([&] { CheckpointReader::open(path); }), "a header of 9187201950435737471 bytes"));
  CHECK(contains(why_not_verified(folder), "checksum"));
}

TEST_CASE("what is not a checkpoint says what it is") {
  const TempFolder temp;
  CHECK(contains(error_text([&] { CheckpointReader::open(temp / "absent"); }), "no such file or folder"));
  CHECK(contains(error_text([&] { CheckpointReader::open(temp.path()); }), "no manifest.json"));
  save_known(1, temp.path(), {8, 7, 5});
  save_known(1, temp.path(), {10, 7, 5});
  const auto why = [](const std::string& folder) { return error_text([&] { CheckpointReader::open(folder); }); };
  CHECK(contains_all(why(temp.path()), {"is a run", "checkpoints/step_00000010"}));
  CHECK(
      contains_all(why(temp / "checkpoints"), {"holds checkpoints", "newest: " + temp / "checkpoints/step_00000010"}));
  std::filesystem::create_directories(temp / "young/checkpoints");
  CHECK(contains_all(why(temp / "young"), {"is a run", "checkpoints/step_N"}));
}

TEST_CASE("files of two checkpoints do not mix") {
  const TempFolder temp;
  const std::string a = save_known(2, temp.path(), {1, 7, 5}), b = save_known(2, temp.path(), {2, 7, 5});
  const std::string file = "/head.00001-of-00002.safetensors";
  spit(a + file, slurp(b + file));
  CHECK(contains_all(why_not_verified(a), {file, "checksum"}));
}

TEST_CASE("damage that one rank finds is every rank's, and is told from other errors") {
  const TempFolder temp;
  const std::string folder = save_known(2, temp.path(), {8, 7, 5});
  const std::string path = folder + "/head.00001-of-00002.safetensors", good = slurp(path);
  // The second rank's rows alone lie there.
  const auto outcome = [&](bool another_error) {
    std::vector<std::string> found(3);
    run_ranks(3, [&](ThreadRank& self) {
      FakeContext fake(self);
      std::string& mine = found[static_cast<size_t>(self.rank)];
      try {
        const auto reader = CheckpointReader::open(folder);
        fake.context.host.barrier();  // the file's size is checked
        if (self.rank == 1) spit(path, good.substr(0, 20));
        fake.context.host.barrier();
        read_together(fake.context, [&] {
          if (another_error && self.rank == 2) fail("another model");
          Tensor row(host_allocator(), {1, 5}, Dtype::f32);
          reader->read_rows(fake.context, "head", "centers", self.rank == 1 ? 6 : 0, row);
        });
        mine = "read";
      } catch (const AgreedDamage& e) {
        mine = std::string("damage: ") + e.what();
      } catch (const AgreedError& e) {
        mine = std::string("error: ") + e.what();
      }
    });
    spit(path, good);
    for (const std::string& one : found) CHECK(one == found[0]);
    return found[0];
  };
  CHECK(contains_all(outcome(false), {"damage: rank 1: " + path, "only 20 are there", "--resume"}));
  CHECK(outcome(true) == "error: rank 2: another model");
}

TEST_CASE("a manifest that is cut short says so in one plain sentence") {
  const TempFolder temp;
  const std::string folder = save_known(1, temp.path(), {8, 7, 5}), path = folder + "/manifest.json",
                    good = slurp(path);
  for (const size_t length : {size_t{0}, size_t{100}}) {
    spit(path, good.substr(0, length));
    const std::string why = error_text([&] { CheckpointReader::open(folder); });
    CHECK(contains_all(why, {path + ": damaged manifest: it is ", length > 0 ? "cut short" : "empty", "--resume DIR"}));
    CHECK_FALSE(contains(why, "json.exception"));
    CHECK_FALSE(contains(list_checkpoints(temp.path()).rejected.at(0), "hint"));
  }
}

TEST_CASE("the list holds whole checkpoints and says why others are not") {
  const TempFolder temp;
  for (int64_t step : {int64_t{5}, int64_t{100'000'000}, int64_t{30}}) save_known(1, temp.path(), {step, 7, 5});
  const std::string root = temp / "checkpoints/";
  std::filesystem::remove(root + "step_00000030/head.00000-of-00001.safetensors");
  std::filesystem::create_directory(root + "step_00000040");
  std::filesystem::create_directory(root + "step_7");  // not a name of ours
  const CheckpointList list = list_checkpoints(temp.path());
  CHECK(list.whole == std::vector<std::string>{root + "step_00000005", root + "step_100000000"});
  REQUIRE(list.rejected.size() == 2);
  CHECK(contains_all(list.rejected[0], {"step_00000030", "head.00000"}));
  CHECK(contains_all(list.rejected[1], {"step_00000040", "manifest.json"}));
  CHECK(list_checkpoints(temp / "absent").whole.empty());
}
