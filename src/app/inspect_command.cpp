// plsc-train inspect: what a checkpoint holds, and whether every byte of it is what was written.
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "base/clock.h"
#include "checkpoint/checkpoint.h"
#include "train/best.h"
#include "train/state.h"

namespace plsc {
namespace {

void print_meta(const CheckpointReader& reader) {
  const RunMeta meta = RunMeta::from_json(reader.meta(), reader.folder());
  const bool grew = meta.images && *meta.images != reader.step() * meta.global_batch;
  fmt::print("step            {} of {} (epoch {}, {} steps {})\n", reader.step(), meta.total_steps, meta.epoch,
             meta.steps_per_epoch, grew ? "in the first; the batch has grown" : "each");
  fmt::print("model           {}\n", meta.model);
  fmt::print("class centres   {} x {}{}\n", meta.classes, meta.embedding_size,
             meta.head_kind == "linear" ? ", each with a bias (head.kind linear)" : "");
  fmt::print("trained on      {} images, global batch {}, seed {}\n", meta.samples, meta.global_batch, meta.seed);
  fmt::print("written by      {} rank{}, {}, {}\n", reader.ranks(), reader.ranks() == 1 ? "" : "s", meta.versions,
             meta.device);
  const auto root = std::filesystem::path(reader.folder() + "/.").parent_path().parent_path();
  if (const auto best = read_best(root.string())) {
    fmt::print("best so far     {} {:.4f} at step {}\n", best->metric, best->value, best->step);
  }
}

/// A shard's tensors have the shape of all shards together.
const char* rest_text(const CheckpointReader::FileInfo& file, const CheckpointReader::TensorInfo& tensor) {
  const int64_t rows = file.row_end - file.row_begin;
  return rows > 0 && tensor.shape.size() > 0 && rows < tensor.shape[0] ? " over all shards" : "";
}

void print_files(const CheckpointReader& reader) {
  for (const auto& file : reader.files()) {
    fmt::print("\n{}  {}", file.file, human_bytes(static_cast<double>(file.bytes)));
    if (file.row_end > file.row_begin) {
      const char* of = !file.tensors.empty() && file.tensors[0].group == "compressed" ? "values" : "classes";
      fmt::print("  {} [{}, {})", of, file.row_begin, file.row_end);
    }
    fmt::print("\n");
    constexpr size_t kShown = 8;
    for (size_t i = 0; i < file.tensors.size() && i < kShown; ++i) {
      const auto& t = file.tensors[i];
      fmt::print("  {:<34} {:<5} {}{}\n", t.name, dtype_name(t.dtype), t.shape.text(), rest_text(file, t));
    }
    if (file.tensors.size() > kShown) fmt::print("  ... and {} more tensors\n", file.tensors.size() - kShown);
  }
}

}  // namespace

int inspect_command(const CommandLine& line) {
  const auto reader = CheckpointReader::open(line.checkpoint);
  fmt::print("{}\n", reader->folder());
  if (reader->ranks() > 0) print_meta(*reader);
  print_files(*reader);
  std::fflush(stdout);
  const Stopwatch watch;
  reader->verify();
  double bytes = 0;
  for (const auto& file : reader->files()) bytes += static_cast<double>(file.bytes);
  fmt::print("\nevery block's checksum is right ({} in {})\n", human_bytes(bytes), human_duration(watch.seconds()));
  return 0;
}

}  // namespace plsc
