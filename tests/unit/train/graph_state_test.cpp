// The class graph between a training and its checkpoints: stored by class and taken up on any number of ranks, left
// where it does not fit the run, and kept up to date at the steps of the schedule.
#include <map>
#include <mutex>

#include "step_fixture.h"
#include "support/catch.h"
#include "support/temp_folder.h"
#include "train/graph_keeper.h"
#include "train/state.h"

namespace plsc::test {
namespace {

constexpr int64_t kNeighbours = 4;

HeadConfig knn_head(int64_t neighbours = kNeighbours) {
  HeadConfig config;
  config.scale = 16;
  config.sampling = {.method = "knn", .ratio = 0.3, .neighbours = neighbours};
  return config;
}

/// A network and a head of one rank.
struct Trained {
  explicit Trained(ThreadRank& rank, const HeadConfig& config = knn_head(), int64_t classes = kClasses)
      : cpu(rank),
        net(tiny_net("plsc")),
        backbone(make_tiny(cpu.context, net)),
        head(drawn_head(cpu.context, config, classes, net.model.embedding_size)) {}

  std::string save(const std::string& output, int64_t step) {
    RunMeta meta;
    meta.classes = head->shard().total;
    return save_checkpoint(cpu.context, output, collect_state(*backbone, *head, step, meta, {}), {});
  }
  void restore(const std::string& folder, const ClassMap& classes) {
    restore_state(cpu.context, *CheckpointReader::open(folder), *backbone, *head, classes);
  }

  CpuContext cpu;
  TinyNet net;
  std::unique_ptr<Backbone> backbone;
  std::unique_ptr<MarginHead> head;
};

/// Lists of all classes by their first class, over the ranks of a test.
using Lists = std::map<int64_t, std::vector<int32_t>>;
std::vector<int32_t> joined(const Lists& lists) {
  std::vector<int32_t> all;
  for (const auto& [begin, part] : lists) all.insert(all.end(), part.begin(), part.end());
  return all;
}

TEST_CASE("a checkpoint has the graph, and any number of ranks takes it up") {
  for (const int before : {1, 3}) {
    TempFolder folder;
    std::mutex mutex;
    Lists stored;
    run_ranks(before, [&](ThreadRank& rank) {
      Trained run(rank);
      run.save(folder.path(), 3);  // without a graph
      run.head->build_graph(run.cpu.context, 7, {});
      run.head->graph()->passed(9);
      run.save(folder.path(), 9);
      const std::lock_guard lock(mutex);
      stored[run.head->shard().begin] = run.head->graph()->lists().values<int32_t>();
    });
    const std::string with = folder.path() + "/checkpoints/step_00000009";
    const auto found = CheckpointReader::open(with)->find("head_optimizer", "neighbours");
    REQUIRE(found);
    CHECK(found->shape == Shape{kClasses, kNeighbours});
    CHECK(found->dtype == Dtype::i32);
    for (const int after : {1, 2, 4}) {
      Lists taken;
      run_ranks(after, [&](ThreadRank& rank) {
        Trained run(rank);
        run.restore(folder.path() + "/checkpoints/step_00000003", ClassMap::identity(kClasses));
        PLSC_CHECK(!run.head->graph()->built());
        run.restore(with, ClassMap::identity(kClasses));
        PLSC_CHECK((run.head->graph()->age() == GraphAge{7, 9}));
        const std::lock_guard lock(mutex);
        taken[run.head->shard().begin] = run.head->graph()->lists().values<int32_t>();
      });
      CHECK(joined(taken) == joined(stored));
    }
  }
}

TEST_CASE("a graph of other classes, of fewer neighbours, or for another sampling is left") {
  TempFolder folder;
  const std::string with = folder.path() + "/checkpoints/step_00000009";
  run_ranks(2, [&](ThreadRank& rank) {
    Trained run(rank);
    run.head->build_graph(run.cpu.context, 9, {});
    run.save(folder.path(), 9);

    Trained wider(rank, knn_head(kNeighbours + 1));
    wider.restore(with, ClassMap::identity(kClasses));
    PLSC_CHECK(!wider.head->graph()->built());

    HeadConfig uniform = knn_head();
    uniform.sampling.method = "uniform";
    Trained other(rank, uniform);
    other.restore(with, ClassMap::identity(kClasses));
    PLSC_CHECK(other.head->graph() == nullptr);

    ClassMap one_more{kClasses, kClasses + 1, {}, 1, 0, 0};
    for (int64_t c = 0; c < kClasses; ++c) one_more.from.push_back(c);
    one_more.from.push_back(-1);
    Trained more(rank, knn_head(), kClasses + 1);
    more.restore(with, one_more);
    PLSC_CHECK(!more.head->graph()->built());
    more.head->build_graph(more.cpu.context, 9, {});

    ClassMap swapped{kClasses, kClasses, {}, 0, 0, 2};
    for (int64_t c = 0; c < kClasses; ++c) swapped.from.push_back(c < 2 ? 1 - c : c);
    Trained renamed(rank);
    renamed.restore(with, swapped);
    PLSC_CHECK(!renamed.head->graph()->built());
  });
}

TEST_CASE("the graph of fewer neighbours is the first columns of the one that was stored") {
  TempFolder folder;
  const std::string with = folder.path() + "/checkpoints/step_00000009";
  run_ranks(2, [&](ThreadRank& rank) {
    Trained run(rank);
    run.head->build_graph(run.cpu.context, 9, {});
    run.head->graph()->passed(11);
    run.save(folder.path(), 9);
  });
  for (const int64_t neighbours : {int64_t{1}, kNeighbours - 1}) {
    for (const int ranks : {1, 3}) {
      run_ranks(ranks, [&](ThreadRank& rank) {
        Trained fewer(rank, knn_head(neighbours));
        fewer.restore(with, ClassMap::identity(kClasses));
        PLSC_CHECK((fewer.head->graph()->age() == GraphAge{9, 11}));
        const auto taken = fewer.head->graph()->lists().values<int32_t>();
        fewer.head->build_graph(fewer.cpu.context, 9, {});
        PLSC_CHECK(fewer.head->graph()->lists().values<int32_t>() == taken, "{} neighbours", neighbours);
      });
    }
  }
}

TEST_CASE("long lists are shortened a few at a time") {
  constexpr int64_t kMany = 3000, kLong = SamplingConfig::kMostNeighbours, kShort = 3;
  static_assert(kMany * kLong * int64_t{sizeof(int32_t)} > 2 * kListBytes);
  TempFolder folder;
  run_ranks(2, [&](ThreadRank& rank) {
    Trained run(rank, knn_head(kLong), kMany);
    const Tensor lists = run.head->graph()->lists();
    for (int64_t i = 0; i < lists.elements(); ++i) {
      const int64_t c = run.head->shard().begin + i / kLong;
      lists.data<int32_t>()[i] = static_cast<int32_t>((c + 1 + i % kLong) % kMany);
    }
    run.head->graph()->restore(run.cpu.context, lists, {9, 9});
    run.save(folder.path(), 9);
  });
  for (const int ranks : {1, 3}) {
    run_ranks(ranks, [&](ThreadRank& rank) {
      Trained fewer(rank, knn_head(kShort), kMany);
      fewer.restore(folder.path() + "/checkpoints/step_00000009", ClassMap::identity(kMany));
      const auto taken = fewer.head->graph()->lists().values<int32_t>();
      for (int64_t i = 0; i < std::ssize(taken); ++i) {
        const int64_t c = fewer.head->shard().begin + i / kShort;
        PLSC_CHECK(taken[static_cast<size_t>(i)] == (c + 1 + i % kShort) % kMany, "{} of {}", i % kShort, c);
      }
    });
  }
}

TEST_CASE("what is due is done once, and what was interrupted is due again") {
  TempFolder folder;
  run_ranks(2, [&](ThreadRank& rank) {
    Trained run(rank);
    Context& context = run.cpu.context;
    SamplingConfig sampling = knn_head().sampling;
    sampling.rebuild = {0.0, 0.95};
    int asked = 0, stops_at = 1;
    GraphKeeper keeper(context, sampling, GraphSchedule(sampling.rebuild, 3, 20), *run.head,
                       [&] { return ++asked == stops_at; });
    Recorder recorder(
        {.output = folder.path(), .every_steps = 1, .first_step = 0, .total_steps = 100, .writes = rank.rank == 0},
        context.log);

    PLSC_CHECK(!keeper.due(2) && keeper.due(3) && !keeper.age(3));
    keeper.run(3, recorder);
    PLSC_CHECK(keeper.due(3) && !run.head->graph()->built());
    keeper.run(3, recorder);
    PLSC_CHECK(!keeper.due(3) && keeper.age(5) == 2 && !keeper.due(7));

    // The probe passes: the graph stays.
    PLSC_CHECK(keeper.due(8));
    keeper.run(8, recorder);
    PLSC_CHECK(!keeper.due(8) && (run.head->graph()->age() == GraphAge{3, 8}));

    // The centres become others: it fails, and the graph is built anew.
    Tensor centers = head_rows(*run.head, "centers");
    const auto values = random_values(centers.elements(), static_cast<uint64_t>(40 + rank.rank));
    set_values(context, centers, values);
    asked = 0;
    stops_at = 5;  // two blocks, shown twice, are the probe: in the build behind it
    keeper.run(13, recorder);
    PLSC_CHECK(asked == 5 && keeper.due(13) && (run.head->graph()->age() == GraphAge{3, 8}));
    keeper.run(13, recorder);
    PLSC_CHECK(!keeper.due(13) && (run.head->graph()->age() == GraphAge{13, 13}));
  });
  std::ifstream file(folder.path() + "/metrics.jsonl");
  std::vector<std::string> events;
  for (std::string line; std::getline(file, line);) {
    events.push_back(line.substr(0, line.find("\"seconds\"")) + line.substr(line.find("\"recall\"")));
  }
  REQUIRE(events.size() == 5);
  CHECK(events[0] == R"({"kind":"graph","step":3,"event":"built","recall":null,"age":null})");
  CHECK(events[1] == R"({"kind":"graph","step":8,"event":"probed","recall":1.0,"age":5})");
  CHECK(events[2].starts_with(R"({"kind":"graph","step":13,"event":"probed","recall":0.)"));
  CHECK(events[3] == events[2]);
  CHECK(events[4].starts_with(R"({"kind":"graph","step":13,"event":"built","recall":0.)"));
  CHECK(events[4].ends_with(R"("age":10})"));
}

}  // namespace
}  // namespace plsc::test
