// A run that is asked to stop while it searches for the class graph: it saves without that graph, builds it when it
// goes on, and becomes the run that nobody has stopped.
#include <map>

#include "data/loader.h"
#include "optim/schedule.h"
#include "step_fixture.h"
#include "support/catch.h"
#include "support/temp_folder.h"
#include "train/trainer.h"

namespace plsc::test {
namespace {

constexpr int64_t kSteps = 20, kEpoch = 10;
const std::vector<int64_t> kBuilds{5, 10, 15};

Config config_of(const std::string& output, const TinyNet& net) {
  Config config = parse_config(
                      "data: {train: synthetic, synthetic: {classes: 23, images: 120}, workers: 1, augment: none}\n"
                      "head: {scale: 16, sampling: {method: knn, ratio: .5, neighbours: 4,"
                      " rebuild: {every_epochs: .5}}}\n"
                      "schedule: {base_lr: .05, warmup_steps: 5}\n"
                      "train: {batch_size: 12, steps: 20}\n"
                      "checkpoint: {every_epochs: none}\n"
                      "log: {every_steps: 1}\n",
                      "test")
                      .config;
  config.output = output;
  config.data.image_size = net.size;
  config.data.channels = net.channels;
  return config;
}

/// One process of one rank: from `first` on, where that is a checkpoint's step, else from the beginning.
class Process {
 public:
  /// `stop_at`: asked to stop by this rank's so many-th question during the search at step `stop_step`.
  struct Stop {
    int64_t step = -1, question = 0;
    int rank = 0;
  };

  Process(ThreadRank& rank, const std::string& output, const Stop& stop)
      : rank_(rank.rank),
        stop_(stop),
        cpu_(rank),
        net_(tiny_net("plsc")),
        config_(config_of(output, net_)),
        source_(open_source(config_.data, 1)),
        backbone_(make_tiny(cpu_.context, net_)),
        head_(drawn_head(cpu_.context, config_.head, kClasses, net_.model.embedding_size)) {}

  TrainEnd run(int64_t first) {
    if (first > 0) {
      const auto reader = CheckpointReader::open(fmt::format("{}/checkpoints/step_{:08d}", config_.output, first));
      restore_state(cpu_.context, *reader, *backbone_, *head_, ClassMap::identity(kClasses));
    }
    RunMeta meta;
    meta.steps_per_epoch = kEpoch;
    meta.total_steps = kSteps;
    meta.global_batch = config_.train.batch_size;
    meta.classes = kClasses;
    LoaderOptions options;
    options.data = config_.data;
    options.rank = rank_;
    options.ranks = cpu_.context.ranks();
    options.global_batch = meta.global_batch;
    options.first_step = first;
    options.last_step = kSteps;
    const auto loader = make_loader(*source_, options, cpu_.log);
    const auto note = [this](int64_t step, const char* phase) {
      searching_ = step == stop_.step && std::string(phase) == "class graph";
    };
    Trainer trainer(cpu_.context, config_,
                    {*backbone_, *head_, *loader, nullptr, kNoNames, Schedule(config_.schedule, kSteps, kEpoch),
                     [this] { return asked_to_stop(); }, note},
                    meta);
    return trainer.run(first);
  }

  /// Of this rank: the bits of all that trains, and the graph.
  std::map<std::string, std::vector<std::byte>> state() {
    std::map<std::string, std::vector<std::byte>> out;
    const auto add = [&](const std::string& name, const Tensor& t) {
      const auto* bytes = static_cast<const std::byte*>(t.raw());
      out[name].assign(bytes, bytes + t.bytes());
    };
    for (const Param* p : backbone_->params()) {
      add(p->name, p->value);
      if (p->momentum.defined()) add(p->name + " momentum", p->momentum);
    }
    for (const HeadRows& rows : head_->state()) add(rows.name, rows.rows);
    add("graph", head_->graph()->lists());
    return out;
  }

 private:
  /// Once asked, always asked; and not before the search.
  bool asked_to_stop() {
    if (rank_ == stop_.rank && searching_ && !asked_) asked_ = ++questions_ == stop_.question;
    return asked_;
  }

  static inline const std::vector<std::string> kNoNames;
  int rank_;
  Stop stop_;
  CpuContext cpu_;
  TinyNet net_;
  Config config_;
  std::unique_ptr<DataSource> source_;
  std::unique_ptr<Backbone> backbone_;
  std::unique_ptr<MarginHead> head_;
  bool searching_ = false, asked_ = false;
  int64_t questions_ = 0;
};

/// Steps of the graphs that a run tells of.
std::vector<int64_t> built(const std::string& output) {
  std::ifstream file(output + "/metrics.jsonl");
  std::vector<int64_t> steps;
  const std::string kind = R"({"kind":"graph","step":)";
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(kind)) steps.push_back(std::stoll(line.substr(kind.size())));
  }
  return steps;
}

TEST_CASE("a run that is stopped within a search goes on with it, to the bit") {
  for (const int ranks : {1, 2}) {
    TempFolder straight;
    std::vector<std::map<std::string, std::vector<std::byte>>> expected(static_cast<size_t>(ranks));
    run_ranks(ranks, [&](ThreadRank& rank) {
      Process process(rank, straight.path(), {});
      PLSC_CHECK(process.run(0) == TrainEnd::complete);
      expected[static_cast<size_t>(rank.rank)] = process.state();
    });
    REQUIRE(built(straight.path()) == kBuilds);

    // The first graph, and one that replaces another. A search asks once a block of each rank, in either round.
    for (const int64_t step : {5, 10}) {
      for (int64_t question = 1; question <= 2 * ranks; ++question) {
        INFO(ranks << " ranks, stopped at question " << question << " of the search at step " << step);
        TempFolder folder;
        const Process::Stop stop{step, question, ranks - 1};  // one rank alone is asked
        run_ranks(ranks, [&](ThreadRank& rank) {
          PLSC_CHECK(Process(rank, folder.path(), stop).run(0) == TrainEnd::stopped);
        });
        const auto saved = CheckpointReader::open(fmt::format("{}/checkpoints/step_{:08d}", folder.path(), step));
        const auto graph = RunMeta::from_json(saved->meta(), "test").graph;
        CHECK(saved->has("head_optimizer", "neighbours") == (step > 5));
        CHECK(graph.has_value() == (step > 5));
        if (graph) CHECK(graph->built == 5);

        // Once more within the same search, which is now in front of the first step; and on.
        run_ranks(ranks, [&](ThreadRank& rank) {
          PLSC_CHECK(Process(rank, folder.path(), stop).run(step) == TrainEnd::stopped);
        });
        run_ranks(ranks, [&](ThreadRank& rank) {
          Process process(rank, folder.path(), {});
          PLSC_CHECK(process.run(step) == TrainEnd::complete);
          PLSC_CHECK(process.state() == expected[static_cast<size_t>(rank.rank)]);
        });
        CHECK(built(folder.path()) == kBuilds);
      }
    }
  }
}

}  // namespace
}  // namespace plsc::test
