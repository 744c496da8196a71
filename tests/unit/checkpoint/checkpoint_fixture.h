// Checkpoints for tests: known values, written by any number of ranks, and read back bit for bit.
#pragma once
#include <cstring>
#include <string>
#include <vector>

#include "base/threads.h"
#include "checkpoint/checkpoint.h"
#include "support/fake_device.h"
#include "support/temp_folder.h"

namespace plsc::test {

/// Byte i of the tensor `name` at `step`: what every test compares with.
inline std::byte known_byte(const std::string& name, int64_t step, int64_t i) {
  uint64_t h = static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(step) * 0xD1B54A32D192ED03u;
  for (char c : name) h = (h ^ static_cast<uint64_t>(c)) * 0x100000001B3u;
  return static_cast<std::byte>(h >> 56);
}

/// A tensor (or the rows from `first_row` on of one) with the known bytes.
inline Tensor known_tensor(Device& device, const std::string& name, int64_t step, Shape shape, Dtype dtype,
                           int64_t first_row = 0) {
  Tensor host(host_allocator(), shape, dtype);
  const int64_t rows = shape.size() > 0 ? shape[0] : 1;
  const int64_t row_bytes = rows > 0 ? static_cast<int64_t>(host.bytes()) / rows : 0;
  auto* bytes = static_cast<std::byte*>(host.raw());
  for (int64_t i = 0; i < static_cast<int64_t>(host.bytes()); ++i) {
    bytes[i] = known_byte(name, step, first_row * row_bytes + i);
  }
  Tensor t(device, shape, dtype);
  device.copy(host, t);
  return t;
}

inline bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         (a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), a.bytes()) == 0);
}

struct KnownState {
  int64_t step = 0, classes = 7, width = 5;
};

inline CheckpointContent known_content(Context& context, const KnownState& s) {
  Device& d = context.device();
  const int64_t begin = range_begin(s.classes, context.ranks(), context.rank());
  const int64_t rows = range_begin(s.classes, context.ranks(), context.rank() + 1) - begin;
  CheckpointContent c;
  c.step = s.step;
  c.meta = R"({"epoch": 3, "lr": 0.1, "text": "zwölf"})";
  c.backbone = {{"bn.num_batches_tracked", known_tensor(d, "tracked", s.step, Shape{}, Dtype::i64)},
                {"conv.weight", known_tensor(d, "conv", s.step, Shape{3, 2, 3, 3}, Dtype::f32)},
                {"odd", known_tensor(d, "odd", s.step, Shape{3}, Dtype::u8)},
                {"half", known_tensor(d, "half", s.step, Shape{5, 1}, Dtype::bf16)}};
  c.optimizer = {{"momentum.conv.weight", known_tensor(d, "momentum", s.step, Shape{3, 2, 3, 3}, Dtype::f32)}};
  c.head = {{"centers", known_tensor(d, "centers", s.step, Shape{rows, s.width}, Dtype::f32, begin), begin, s.classes}};
  c.head_optimizer = {
      {"momentum", known_tensor(d, "head", s.step, Shape{rows, s.width}, Dtype::f32, begin), begin, s.classes},
      {"last_update", known_tensor(d, "last", s.step, Shape{rows}, Dtype::i64, begin), begin, s.classes}};
  return c;
}

/// Reads every tensor (rows as this rank owns them) into `context`'s memory; true when all are as written.
inline bool reads_back(Context& context, const CheckpointReader& reader, const KnownState& s) {
  const CheckpointContent expected = known_content(context, s);
  bool same = true;
  const auto whole = [&](const std::string& group, const std::vector<NamedTensor>& tensors) {
    for (const NamedTensor& t : tensors) {
      Tensor found(context.device(), t.value.shape(), t.value.dtype());
      reader.read(context, group, t.name, found);
      same = same && same_bytes(found, t.value);
    }
  };
  const auto rows = [&](const std::string& group, const std::vector<NamedRows>& tensors) {
    for (const NamedRows& t : tensors) {
      Tensor found(context.device(), t.rows.shape(), t.rows.dtype());
      reader.read_rows(context, group, t.name, t.begin, found);
      same = same && same_bytes(found, t.rows);
    }
  };
  whole("backbone", expected.backbone);
  whole("optimizer", expected.optimizer);
  rows("head", expected.head);
  rows("head_optimizer", expected.head_optimizer);
  return same;
}

inline std::string save_known(int ranks, const std::string& output, const KnownState& s, const KeepPolicy& keep = {},
                              bool far = false) {
  std::string folder;
  run_ranks(ranks, [&](ThreadRank& self) {
    FakeContext fake(self, far);
    const std::string saved = save_checkpoint(fake.context, output, known_content(fake.context, s), keep);
    if (self.rank == 0) folder = saved;
  });
  return folder;
}

inline bool reads_back_on(int ranks, const std::string& folder, const KnownState& s, bool far = false) {
  std::vector<char> good(static_cast<size_t>(ranks));
  run_ranks(ranks, [&](ThreadRank& self) {
    FakeContext fake(self, far);
    const auto reader = CheckpointReader::open(folder);
    good[static_cast<size_t>(self.rank)] = reader->step() == s.step && reads_back(fake.context, *reader, s);
  });
  return std::all_of(good.begin(), good.end(), [](char g) { return g != 0; });
}

/// Names in a folder, sorted, hidden ones too.
inline std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& e : std::filesystem::directory_iterator(folder)) names.push_back(e.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace plsc::test
