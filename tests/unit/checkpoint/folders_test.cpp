// What is kept, what is replaced, what a crash or a full disk leaves behind.
#include "checkpoint/folders.h"

#include <sys/mount.h>

#include <atomic>

#include "base/error.h"
#include "checkpoint_fixture.h"
#include "support/catch.h"
#include "support/error_text.h"
#include "support/file_size_limit.h"

using namespace plsc;
using namespace plsc::test;

namespace {

std::vector<int64_t> steps_in(const std::string& output) {
  std::vector<int64_t> steps;
  for (const std::string& name : names_in(checkpoints_folder(output)))
    if (const auto step = step_of(name)) steps.push_back(*step);
  return steps;
}

std::vector<int64_t> kept(int64_t saves, const KeepPolicy& keep) {
  const TempFolder temp;
  for (int64_t i = 1; i <= saves; ++i) save_known(1, temp.path(), {i * 10, 3, 2}, keep);
  return steps_in(temp.path());
}

using Steps = std::vector<int64_t>;

// Saves on three ranks and counts those that were told of an error.
std::pair<int, std::string> failed_save(const std::string& output, const KnownState& state) {
  std::atomic<int> failed = 0;
  std::string text;
  run_ranks(3, [&](ThreadRank& self) {
    FakeContext fake(self);
    const std::string error =
        error_text([&] { save_checkpoint(fake.context, output, known_content(fake.context, state), {}); });
    if (!error.empty()) ++failed;
    if (self.rank == 1) text = error;
  });
  return {failed.load(), text};
}

}  // namespace

TEST_CASE("names of steps") {
  CHECK(step_name(1200) == "step_00001200");
  CHECK(step_of("step_00001200") == 1200);
  CHECK(step_of("step_1234567890") == 1234567890);
  for (const char* name : {"step_1200", "step_0000120x", "step_", "step_-0000001", "xstep_00000001", "step_012345678"})
    CHECK_FALSE(step_of(name).has_value());
}

TEST_CASE("pruning keeps the newest, the multiples and the best") {
  CHECK(kept(5, {.keep = 3, .best_step = {}}) == Steps{30, 40, 50});
  CHECK(kept(5, {.keep = 1, .best_step = {}}) == Steps{50});
  CHECK(kept(4, {.keep = 0, .best_step = {}}) == Steps{10, 20, 30, 40});  // no limit
  CHECK(kept(7, {.keep = 1, .keep_every = 30, .best_step = {}}) == Steps{30, 60, 70});
  CHECK(kept(5, {.keep = 2, .keep_every = 0, .best_step = 20}) == Steps{20, 40, 50});
}

TEST_CASE("what was just written is never pruned") {
  // A run that was resumed from an old checkpoint writes smaller step numbers than some that lie there.
  const TempFolder temp;
  for (int64_t step : {30, 40, 50}) save_known(1, temp.path(), {step, 3, 2}, {.keep = 3, .best_step = {}});
  save_known(1, temp.path(), {20, 3, 2}, {.keep = 2, .best_step = {}});
  CHECK(steps_in(temp.path()) == Steps{20, 40, 50});
}

TEST_CASE("checkpoints of a past that a run leaves are set aside") {
  const TempFolder temp;
  for (int64_t step : {10, 20, 30}) save_known(1, temp.path(), {step, 3, 2});
  CHECK(set_aside_later(temp.path(), 30).empty());
  for (int repeat = 0; repeat < 2; ++repeat) {
    CHECK(set_aside_later(temp.path(), 10) == std::vector<std::string>{"step_00000020", "step_00000030"});
    CHECK(steps_in(temp.path()) == Steps{10});
    CHECK(slurp(temp / "checkpoints/latest") == "step_00000010\n");
    CHECK(reads_back_on(1, temp / "checkpoints/set_aside/step_00000030", {30, 3, 2}));
    for (int64_t step : {20, 30}) save_known(1, temp.path(), {step, 3, 2}, {.keep = 5, .best_step = {}});
    CHECK(steps_in(temp.path()) == Steps{10, 20, 30});
  }
  CHECK(set_aside_later(temp.path(), 0).size() == 3);
  CHECK(names_in(temp / "checkpoints") == std::vector<std::string>{"set_aside"});
  CHECK(set_aside_later(temp / "absent", 0).empty());
}

TEST_CASE("a checkpoint that is not whole neither counts nor goes") {
  const TempFolder temp;
  for (int64_t step : {10, 20, 30}) save_known(1, temp.path(), {step, 3, 2});
  std::filesystem::remove(temp / "checkpoints/step_00000030/manifest.json");
  save_known(1, temp.path(), {40, 3, 2}, {.keep = 2, .best_step = {}});
  CHECK(steps_in(temp.path()) == Steps{20, 30, 40});
}

TEST_CASE("the same step again replaces the old one") {
  const TempFolder temp;
  const KnownState first{10, 7, 5}, again{10, 9, 4};
  save_known(3, temp.path(), first);
  const std::string folder = save_known(2, temp.path(), again);
  CHECK(reads_back_on(1, folder, again));
  CHECK(names_in(temp / "checkpoints") == std::vector<std::string>{"latest", "step_00000010"});
  CHECK(names_in(folder).size() == 7);
}

TEST_CASE("leftovers of a crash are removed, and nothing else") {
  const TempFolder temp;
  const KnownState state{10, 7, 5};
  save_known(1, temp.path(), state);
  const std::string root = temp / "checkpoints/";
  std::filesystem::create_directory(root + ".tmp.step_00000020");
  spit(root + ".tmp.step_00000020/backbone.safetensors", "half");
  std::filesystem::create_directory(root + ".old.step_00000010");
  std::filesystem::create_directory(root + ".tmp.mine");
  std::filesystem::create_directory(root + "notes");
  CHECK(list_checkpoints(temp.path()).whole == std::vector<std::string>{root + "step_00000010"});
  save_known(2, temp.path(), {20, 7, 5});
  CHECK(names_in(root) == std::vector<std::string>{".tmp.mine", "latest", "notes", "step_00000010", "step_00000020"});
}

TEST_CASE("a crash between the two renames of a replacement loses nothing") {
  const TempFolder temp;
  const KnownState state{10, 7, 5};
  save_known(1, temp.path(), state);
  const std::string root = temp / "checkpoints/";
  std::filesystem::rename(root + "step_00000010", root + ".old.step_00000010");
  const CheckpointList list = list_checkpoints(temp.path());
  REQUIRE(list.whole == std::vector<std::string>{root + ".old.step_00000010"});
  CHECK(reads_back_on(2, list.whole[0], state));
  save_known(1, temp.path(), {20, 7, 5});
  CHECK(reads_back_on(2, root + "step_00000010", state));
}

TEST_CASE("a disk that fills while saving: an error on every rank, the older checkpoint whole, nothing left") {
  const TempFolder temp;
  const KnownState good{10, 7, 5}, large{20, 30'000, 64};
  save_known(3, temp.path(), good);
  {
    const FileSizeLimit limit(1 << 20);
    const auto [failed, text] = failed_save(temp.path(), large);
    CHECK(failed == 3);
    CHECK(contains_all(text, {"head.0000", "File too large"}));
  }
  CHECK(names_in(temp / "checkpoints") == std::vector<std::string>{"latest", "step_00000010"});
  CHECK(slurp(temp / "checkpoints/latest") == "step_00000010\n");
  CHECK(reads_back_on(2, temp / "checkpoints/step_00000010", good));
  CHECK(reads_back_on(2, save_known(3, temp.path(), large), large));
}

TEST_CASE("too little free space is said before anything is written") {
  const TempFolder temp;
  const std::string text = error_text([&] { require_free_space(temp.path(), int64_t{1} << 60); });
  CHECK(contains_all(text, {temp.path(), "no space", "1024.0 PiB", "hint"}));
  require_free_space(temp.path(), 1);
}

TEST_CASE("a small disk that is really full") {
  const TempFolder temp;
  if (::mount("none", temp.path().c_str(), "tmpfs", 0, "size=2m") != 0) {
    WARN("skipped: no right to mount a tmpfs");
    return;
  }
  const KnownState good{10, 7, 5}, large{20, 10'000, 64};
  save_known(3, temp.path(), good);
  const auto [before, why] = failed_save(temp.path(), large);
  CHECK(before == 3);
  CHECK(contains(why, "no space"));
  CHECK(names_in(temp / "checkpoints") == std::vector<std::string>{"latest", "step_00000010"});
  CHECK(reads_back_on(2, temp / "checkpoints/step_00000010", good));
  ::umount2(temp.path().c_str(), MNT_DETACH);
}
