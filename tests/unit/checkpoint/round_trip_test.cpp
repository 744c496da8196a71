// Any number of ranks writes, any other reads: bit for bit, from host and device memory.
#include "checkpoint/block_file.h"
#include "checkpoint/folders.h"
#include "checkpoint_fixture.h"
#include "support/catch.h"
#include "support/error_text.h"

using namespace plsc;
using namespace plsc::test;

TEST_CASE("written by W ranks, read by W'") {
  const TempFolder temp;
  for (const int64_t classes : {int64_t{7}, int64_t{1}, int64_t{3}}) {  // 1 and 3: ranks without a class
    for (int w = 1; w <= 5; ++w) {
      const KnownState state{w, classes, 5};
      const std::string folder = save_known(w, temp / fmt::format("c{}", classes), state, {.keep = 0, .best_step = {}});
      for (int readers = 1; readers <= 5; ++readers) {
        INFO(classes << " classes, " << w << " ranks to " << readers);
        CHECK(reads_back_on(readers, folder, state));
      }
    }
  }
}

TEST_CASE("what a reader says of a checkpoint") {
  const TempFolder temp;
  const std::string folder = save_known(3, temp.path(), {1200, 7, 5});
  CHECK(folder == temp / "checkpoints/step_00001200");
  CHECK(slurp(temp / "checkpoints/latest") == "step_00001200\n");
  const auto reader = CheckpointReader::open(folder);
  CHECK(reader->step() == 1200);
  CHECK(reader->ranks() == 3);
  CHECK(reader->folder() == folder);
  CHECK(contains_all(reader->meta(), {"\"epoch\":3", "zwölf"}));
  CHECK(reader->has("head", "centers"));
  CHECK_FALSE(reader->has("backbone", "centers"));
  for (const auto& t : reader->tensors()) {
    if (t.name == "centers") CHECK(t.shape == Shape{7, 5});
    if (t.name == "last_update") CHECK(t.dtype == Dtype::i64);
  }
  CHECK(reader->tensors().size() == 8);
  const auto files = reader->files();
  REQUIRE(files.size() == 8);  // backbone, optimizer, and two files a rank
  int64_t rows = 0;
  for (const auto& f : files) {
    CHECK(f.bytes == static_cast<int64_t>(std::filesystem::file_size(folder + "/" + f.file)));
    if (f.file.rfind("head.", 0) == 0) rows += f.row_end - f.row_begin;
  }
  CHECK(rows == 7);
  reader->verify();
}

TEST_CASE("any range of rows") {
  const TempFolder temp;
  const KnownState state{0, 11, 3};
  const std::string folder = save_known(4, temp.path(), state);
  const auto reader = CheckpointReader::open(folder);
  run_ranks(1, [&](ThreadRank& self) {
    FakeContext fake(self);
    for (int64_t begin = 0; begin <= 11; ++begin) {
      for (int64_t end = begin; end <= 11; ++end) {
        Tensor rows(host_allocator(), Shape{end - begin, 3}, Dtype::f32);
        reader->read_rows(fake.context, "head", "centers", begin, rows);
        CHECK(same_bytes(rows, known_tensor(*fake.device, "centers", 0, Shape{end - begin, 3}, Dtype::f32, begin)));
      }
    }
    Tensor slope(host_allocator(), Shape{2, 2, 3, 3}, Dtype::f32);  // rows of a tensor that is not split
    reader->read_rows(fake.context, "backbone", "conv.weight", 1, slope);
    CHECK(same_bytes(slope, known_tensor(*fake.device, "conv", 0, Shape{2, 2, 3, 3}, Dtype::f32, 1)));
  });
}

TEST_CASE("what does not fit is refused by name") {
  const TempFolder temp;
  const std::string folder = save_known(2, temp.path(), {});
  const auto reader = CheckpointReader::open(folder);
  run_ranks(1, [&](ThreadRank& self) {
    FakeContext fake(self);
    const auto why = [&](const std::string& group, const std::string& name, Shape shape, Dtype dtype) {
      Tensor t(host_allocator(), shape, dtype);
      return error_text([&] { reader->read(fake.context, group, name, t); });
    };
    CHECK(contains_all(why("backbone", "absent", Shape{1}, Dtype::f32), {folder, "'absent'"}));
    CHECK(contains_all(why("backbone", "conv.weight", Shape{4, 2, 3, 3}, Dtype::f32),
                       {"'conv.weight' is (3, 2, 3, 3)", "expected (4, 2, 3, 3)", "another model"}));
    CHECK(contains_all(why("backbone", "conv.weight", Shape{3, 2, 3, 3}, Dtype::f16), {"is f32, expected f16"}));
    Tensor rows(host_allocator(), Shape{3, 5}, Dtype::f32);
    CHECK(contains(error_text([&] { reader->read_rows(fake.context, "head", "centers", 5, rows); }), "from row 5"));
  });
}

TEST_CASE("one .safetensors file is read alone") {
  const TempFolder temp;
  const std::string folder = save_known(2, temp.path(), {3, 7, 5});
  const auto reader = CheckpointReader::open(folder + "/backbone.safetensors");
  CHECK(reader->ranks() == 0);
  CHECK(reader->meta() == "{}");
  CHECK(reader->tensors().size() == 4);
  reader->verify();
  run_ranks(1, [&](ThreadRank& self) {
    FakeContext fake(self);
    Tensor conv(host_allocator(), Shape{3, 2, 3, 3}, Dtype::f32);
    reader->read(fake.context, "backbone", "conv.weight", conv);
    CHECK(same_bytes(conv, known_tensor(*fake.device, "conv", 3, Shape{3, 2, 3, 3}, Dtype::f32)));
  });
}

TEST_CASE("device memory goes through one block at a time") {
  const TempFolder temp;
  const KnownState state{7, 40'000, 257};  // 41 MB of centres: several blocks, none aligned to rows
  const std::string folder = save_known(2, temp.path(), state, {}, true);
  CHECK(reads_back_on(2, folder, state, true));
  CHECK(reads_back_on(3, folder, state));
  run_ranks(1, [&](ThreadRank& self) {
    FakeContext fake(self, true);
    const CheckpointContent content = known_content(fake.context, state);
    fake.device->largest_copy = 0;
    save_checkpoint(fake.context, temp.path(), content, {});
    CHECK(fake.device->largest_copy == kBlockBytes);
    Tensor centers(*fake.device, Shape{state.classes, state.width}, Dtype::f32);
    fake.device->largest_copy = 0;
    CheckpointReader::open(folder)->read(fake.context, "head", "centers", centers);
    CHECK(fake.device->largest_copy == kBlockBytes);
    CHECK(same_bytes(centers, content.head[0].rows));
  });
}

#ifndef PLSC_SANITIZE  // its own memory would be counted too
namespace {

// The largest resident size since `restart_peak`, in bytes.
int64_t peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) return std::stoll(line.substr(6)) * 1024;
  return 0;
}
bool restart_peak() {
  std::ofstream refs("/proc/self/clear_refs");
  refs << "5";
  return static_cast<bool>(refs.flush());
}

}  // namespace

TEST_CASE("saving and loading need a few blocks of memory, whatever the size") {
  const TempFolder temp;
  const KnownState state{1, 100'000, 256};  // 102 MB of centres and as much momentum
  run_ranks(1, [&](ThreadRank& self) {
    FakeContext fake(self);
    CheckpointContent content = known_content(fake.context, state);
    if (!restart_peak()) {
      WARN("skipped: the peak of the memory cannot be reset here");
      return;
    }
    const int64_t before = peak_memory();
    const std::string folder = save_checkpoint(fake.context, temp.path(), content, {});
    const auto reader = CheckpointReader::open(folder);
    reader->read(fake.context, "head", "centers", content.head[0].rows);
    reader->verify();
    // One block for the reader's cache and one to spare; a copy of the centres would be 102 MB.
    CHECK(before > 200'000'000);
    CHECK(peak_memory() - before < 2 * kBlockBytes);
  });
}
#endif
