// plsc-train embed: embeddings of a folder, list or .rec, computed by all ranks and written in the order of the input.
#include <fstream>

#include "app/build.h"
#include "app/commands.h"
#include "app/world.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/files.h"
#include "checkpoint/checkpoint.h"
#include "eval/npy.h"
#include "nn/module.h"
#include "train/run_folder.h"
#include "train/state.h"

namespace plsc {
namespace {

std::string beside(const std::string& output, const std::string& suffix) {
  const std::string stem = output.ends_with(".npy") ? output.substr(0, output.size() - 4) : output;
  return stem + suffix;
}

/// Writes the three files as rounds come in. Rank 0 alone has one.
class Outputs {
 public:
  Outputs(const std::string& path, Shape shape, int64_t top)
      : embeddings_(path, shape), names_(beside(path, ".txt")), k_(top) {
    if (top > 0) nearest_.open(beside(path, ".top.tsv"));
    if (!names_ || (top > 0 && !nearest_)) fail("cannot write beside {}", path);
  }

  void add(const DataSource& source, int64_t first, const Tensor& rows, const Tensor& classes, const Tensor& cosines,
           const std::vector<std::string>& class_names) {
    embeddings_.append(rows);
    for (int64_t i = 0; i < rows.dim(0); ++i) {
      names_ << source.name(first + i) << '\n';
      if (k_ == 0) continue;
      nearest_ << source.name(first + i);
      for (int64_t k = 0; k < k_; ++k) {
        const int64_t id = classes.data<int64_t>()[i * k_ + k];
        if (id < 0) continue;
        const bool named = id < static_cast<int64_t>(class_names.size());
        nearest_ << '\t' << (named ? class_names[static_cast<size_t>(id)] : std::to_string(id)) << '\t'
                 << fmt::format("{:.6f}", cosines.data<float>()[i * k_ + k]);
      }
      nearest_ << '\n';
    }
  }
  void finish() {
    embeddings_.finish();
    names_.close();
    if (k_ > 0) nearest_.close();
    if (!names_ || (k_ > 0 && !nearest_)) fail("cannot write the names of the embeddings: is the disk full?");
  }

 private:
  NpyWriter embeddings_;
  std::ofstream names_, nearest_;
  int64_t k_;
};

/// classes.txt of the run that the checkpoint is of; empty where it has none.
std::vector<std::string> read_class_names(const std::string& checkpoint) {
  std::ifstream file(checkpoint + "/../../classes.txt");
  std::vector<std::string> names;
  for (std::string line; std::getline(file, line);) names.push_back(line.substr(line.find('\t') + 1));
  return names;
}

struct Gathered {
  Tensor embeddings, classes, cosines;  // (ranks * chunk, ...)
};

Tensor gather(Context& context, const Tensor& mine, int64_t rows, int64_t columns) {
  Tensor padded(host_allocator(), Shape{rows, columns}, mine.dtype());
  std::memset(padded.raw(), 0, padded.bytes());
  std::memcpy(padded.raw(), mine.raw(), mine.bytes());
  Tensor all(host_allocator(), Shape{rows * context.ranks(), columns}, mine.dtype());
  context.host.all_gather(padded, all, "embeddings");
  return all;
}

}  // namespace

int embed_command(const CommandLine& line, const LoadedConfig& loaded, World& world) {
  const Config& config = loaded.config;
  Log log(world.rank());
  Backend backend = build_backend(config, world.threads());
  Context context{
      backend,    world.device_collective(), world.host_collective(), log, activation_type(config, *backend.device),
      config.seed};
  const auto reader = CheckpointReader::open(line.checkpoint);
  const auto backbone = make_backbone(context, config.model, config.data.image_size, config.data.channels);
  restore_backbone(context, *reader, *backbone);
  std::unique_ptr<MarginHead> head;
  if (line.top > 0) {
    const RunMeta meta = RunMeta::from_json(reader->meta(), reader->folder());
    head = make_margin_head(context, config.head, meta.classes, backbone->embedding_size());
    restore_centers(context, *reader, *head);
  }
  const auto source = open_source(std::vector<std::string>{line.input});
  const auto names = line.top > 0 ? read_class_names(line.checkpoint) : std::vector<std::string>{};
  std::unique_ptr<Outputs> outputs;
  on_rank_0(context, [&] {
    outputs = std::make_unique<Outputs>(line.output, Shape{source->size(), backbone->embedding_size()}, line.top);
  });

  // Rounds of one chunk a rank: chunk c is images [c * chunk, ...) whatever the number of ranks, and whole batches, so
  // that an image's embedding does not depend on how many ranks there are.
  const int64_t chunk = line.batch_size * 8, size = source->size(), dim = backbone->embedding_size();
  const Stopwatch watch;
  for (int64_t first = 0; first < size; first += chunk * context.ranks()) {
    const int64_t begin = std::min(size, first + chunk * context.rank()), end = std::min(size, begin + chunk);
    const Tensor mine =
        embed_range(context, *backbone, *source, config.data, begin, end, line.batch_size, line.flip_sum);
    Gathered all{gather(context, mine, chunk, dim), {}, {}};
    if (head) {
      const MarginHead::Nearest nearest = head->nearest(context, mine, line.top);
      all.classes = gather(context, nearest.classes, chunk, line.top);
      all.cosines = gather(context, nearest.cosines, chunk, line.top);
    }
    const int64_t count = std::min(size, first + chunk * context.ranks()) - first;
    on_rank_0(context,
              [&] { outputs->add(*source, first, all.embeddings.rows(0, count), all.classes, all.cosines, names); });
    const double rate = static_cast<double>(first + count) / watch.seconds();
    log.progress(fmt::format("{}/{} images  {:.0f} images/s  ETA {}", first + count, size, rate,
                             human_duration(static_cast<double>(size - first - count) / rate)),
                 first + count == size);
  }
  on_rank_0(context, [&] { outputs->finish(); });
  log.info("{} embeddings of {} numbers in {}, their paths in {}{}", size, dim, line.output,
           beside(line.output, ".txt"),
           line.top > 0 ? ", the nearest classes in " + beside(line.output, ".top.tsv") : "");
  return 0;
}

}  // namespace plsc
