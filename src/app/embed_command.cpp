// plsc-train embed: embeddings of a folder, list or .rec, computed by all ranks and written in the order of the input.
#include <optional>

#include "app/build.h"
#include "app/commands.h"
#include "app/world.h"
#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "eval/embed.h"
#include "eval/npy.h"
#include "nn/module.h"
#include "optim/optimizer.h"
#include "train/run_folder.h"
#include "train/state.h"

namespace plsc {
namespace {

std::string beside(const std::string& output, const std::string& suffix) {
  const std::string stem = output.ends_with(".npy") ? output.substr(0, output.size() - 4) : output;
  return stem + suffix;
}

/// Writes the three files as rounds come in; they appear when all rows are there. Rank 0 alone has one.
class Outputs {
 public:
  Outputs(const std::string& path, Shape shape, int64_t top)
      : embeddings_(path, shape), names_(beside(path, ".txt")), k_(top) {
    if (top > 0) nearest_.emplace(beside(path, ".top.tsv"));
  }

  struct Rows {
    Tensor embeddings;        // (n, D)
    Tensor classes, cosines;  // (n, K), undefined without --top
  };

  void add(const DataSource& source, int64_t first, const Rows& rows, const std::vector<std::string>& class_names) {
    embeddings_.append(rows.embeddings);
    for (int64_t i = 0; i < rows.embeddings.dim(0); ++i) {
      names_.write(source.name(first + i) + "\n");
      if (k_ == 0) continue;
      std::string text = source.name(first + i);
      for (int64_t k = 0; k < k_; ++k) {
        const int64_t id = rows.classes.data<int64_t>()[i * k_ + k];
        if (id < 0) continue;
        const bool named = id < static_cast<int64_t>(class_names.size());
        text += fmt::format("\t{}\t{:.6f}", named ? class_names[static_cast<size_t>(id)] : std::to_string(id),
                            rows.cosines.data<float>()[i * k_ + k]);
      }
      nearest_->write(text + "\n");
    }
  }
  void finish() {
    names_.publish();
    if (nearest_) nearest_->publish();
    embeddings_.finish();
  }

 private:
  NpyWriter embeddings_;
  AtomicFile names_;
  std::optional<AtomicFile> nearest_;
  int64_t k_;
};

}  // namespace

int embed_command(const CommandLine& line, const LoadedConfig& loaded, World& world) {
  const Config& config = loaded.config;
  Session session(config, world);
  Context& context = session.context;
  Log& log = context.log;
  const auto reader = CheckpointReader::open(line.checkpoint);
  const auto backbone = make_backbone(context, config.model, config.data.image_size, config.data.channels);
  restore_backbone(context, *reader, *backbone, evaluated_weights(config.eval));
  std::unique_ptr<MarginHead> head;
  if (line.top > 0) {
    const RunMeta meta = RunMeta::from_json(reader->meta(), reader->folder());
    head =
        make_margin_head(context, config.head, meta.classes, backbone->embedding_size(), head_update(config.optimizer));
    restore_centers(context, *reader, *head, ClassMap::identity(head->shard().total));
  }
  const auto source = open_source(std::vector<std::string>{line.input}, &log);
  log.info("images     {}; to {} x {}, data.resize: {}", source->description(), config.data.image_size[0],
           config.data.image_size[1], config.data.resize);
  const auto names = line.top > 0 ? class_names(*reader) : std::vector<std::string>{};
  std::unique_ptr<Outputs> outputs;
  on_rank_0(context, [&] {
    outputs = std::make_unique<Outputs>(line.output, Shape{source->size(), backbone->embedding_size()}, line.top);
  });

  int64_t first = 0;
  const EmbedJob job{*source, config.data, line.batch_size, line.flip_sum, line.input};
  embed_in_rounds(context, *backbone, job, [&](const Tensor& mine, int64_t) {
    Outputs::Rows rows{gather_rows(context, mine), {}, {}};
    if (head) {
      const MarginHead::Nearest nearest = head->nearest(context, mine, line.top);
      rows.classes = gather_rows(context, nearest.classes);
      rows.cosines = gather_rows(context, nearest.cosines);
    }
    on_rank_0(context, [&] { outputs->add(*source, first, rows, names); });
    first += rows.embeddings.dim(0);
  });
  on_rank_0(context, [&] { outputs->finish(); });
  log.info("{} embeddings of {} numbers in {}, their paths in {}{}", source->size(), backbone->embedding_size(),
           line.output, beside(line.output, ".txt"),
           line.top > 0 ? ", the nearest classes in " + beside(line.output, ".top.tsv") : "");
  return 0;
}

}  // namespace plsc
