// The loader: order, ranks, micro-batches, resuming, damaged samples.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <set>
#include <thread>

#include "data/loader.h"
#include "data_support.h"

using namespace plsc;
using namespace plsc::test;

namespace {

/// Pixels that tell the sample, labels that differ from the index, and some samples that cannot be read.
class NumberSource final : public DataSource {
 public:
  explicit NumberSource(int64_t n, std::set<int64_t> damaged = {}) : n_(n), damaged_(std::move(damaged)) {}
  int64_t size() const override { return n_; }
  int64_t classes() const override { return 1000; }
  const std::vector<std::string>& class_names() const override { return names_; }
  std::string name(int64_t i) const override { return std::to_string(i); }
  std::string description() const override { return "numbers"; }
  int64_t label(int64_t i) const override { return i * 7 % 1000; }
  RawSample read(int64_t i) const override {
    ++reads;
    if (damaged_.count(i) != 0) fail("number {} is damaged", i);
    return {{}, {static_cast<uint8_t>(i), static_cast<uint8_t>(i >> 8)}, label(i), std::to_string(i)};
  }
  mutable std::atomic<int64_t> reads{0};

 private:
  int64_t n_;
  std::set<int64_t> damaged_;
  std::vector<std::string> names_;
};

LoaderOptions options(int64_t batch, int64_t steps, int rank = 0, int ranks = 1) {
  LoaderOptions o;
  o.data.image_size = {2, 1};
  o.data.channels = 1;
  o.data.workers = 3;
  o.seed = 5;
  o.rank = rank;
  o.ranks = ranks;
  o.global_batch = batch;
  o.last_step = steps;
  return o;
}

/// What a step holds, by position in its global batch.
struct Slot {
  int64_t sample = -1, label = -1;
  int flip = -1;
  bool operator==(const Slot& o) const { return sample == o.sample && label == o.label && flip == o.flip; }
};
using Step = std::vector<Slot>;

void collect(const std::vector<Batch>& batches, Step& step) {
  for (const Batch& b : batches) {
    const auto n = static_cast<size_t>(b.bytes.dim(0));
    REQUIRE(b.labels.size() == n);
    REQUIRE(b.samples.size() == n);
    for (size_t i = 0; i < n; ++i) {
      const int64_t seen = b.bytes.span<uint8_t>()[2 * i] | b.bytes.span<uint8_t>()[2 * i + 1] << 8;
      REQUIRE(seen == (b.samples[i] & 0xffff));
      Slot& slot = step.at(static_cast<size_t>(b.first_sample) + i);
      REQUIRE(slot.sample == -1);  // no position twice
      slot = {b.samples[i], b.labels[i], b.flip.span<uint8_t>()[i]};
    }
  }
}

/// All steps of a run, its ranks put together.
std::vector<Step> run(const DataSource& source, LoaderOptions o, int ranks = 1) {
  const StepMap map({source.size(), o.global_batch, o.micro_batches, o.grow});
  std::vector<Step> all;
  for (int64_t s = o.first_step; s < o.last_step; ++s) all.emplace_back(static_cast<size_t>(map.at(s).batch));
  Log log(1);
  o.ranks = ranks;
  for (o.rank = 0; o.rank < ranks; ++o.rank) {
    const auto loader = make_loader(source, o, log);
    for (Step& step : all) collect(loader->next(), step);
  }
  return all;
}

}  // namespace

TEST_CASE("an epoch gives every sample at most once, and drops the rest") {
  const NumberSource source(103);
  Log log(1);
  const auto loader = make_loader(source, options(10, 25), log);
  CHECK(loader->steps().steps_in(0) == 10);
  const auto steps = run(source, options(10, 25));
  std::vector<std::set<int64_t>> epochs(3);
  for (size_t s = 0; s < steps.size(); ++s) {
    for (const Slot& slot : steps[s]) {
      CHECK(epochs[s / 10].insert(slot.sample).second);
      CHECK(slot.label == slot.sample * 7 % 1000);
    }
  }
  CHECK(epochs[0].size() == 100);
  CHECK(epochs[0] != epochs[1]);  // other samples are dropped
  CHECK(steps[0][0].sample != steps[10][0].sample);
}

TEST_CASE("the ranks together hold the batch of one rank, for 1 to 5 ranks") {
  const NumberSource source(333);
  const auto one = run(source, options(32, 15));
  for (int ranks = 2; ranks <= 5; ++ranks) CHECK(run(source, options(32, 15), ranks) == one);
}

TEST_CASE("the first ranks take one sample more") {
  const NumberSource source(100);
  Log log(1);
  std::vector<int64_t> counts;
  for (int rank = 0; rank < 3; ++rank) {
    const auto loader = make_loader(source, options(11, 1, rank, 3), log);
    counts.push_back(loader->next().at(0).bytes.dim(0));
  }
  CHECK(counts == std::vector<int64_t>{4, 4, 3});
}

TEST_CASE("micro-batches hold the same samples on any number of ranks") {
  const NumberSource source(200);
  Log log(1);
  std::vector<std::vector<std::set<int64_t>>> by_ranks;
  for (const int ranks : {1, 3, 4}) {
    std::vector<std::set<int64_t>> micros(3);
    for (int rank = 0; rank < ranks; ++rank) {
      auto o = options(26, 2, rank, ranks);
      o.micro_batches = 3;
      const auto loader = make_loader(source, o, log);
      loader->next();
      const auto batches = loader->next();
      REQUIRE(batches.size() == 3);
      for (size_t m = 0; m < 3; ++m) micros[m].insert(batches[m].samples.begin(), batches[m].samples.end());
    }
    CHECK(micros[0].size() == 9);
    CHECK(micros[2].size() == 8);
    by_ranks.push_back(micros);
  }
  CHECK(by_ranks[0] == by_ranks[1]);
  CHECK(by_ranks[0] == by_ranks[2]);
  auto o = options(26, 4);
  o.micro_batches = 3;
  CHECK(run(source, o) == run(source, options(26, 4)));
}

TEST_CASE("resuming at any step gives the same batches, within an epoch and across") {
  const NumberSource source(77);
  const auto whole = run(source, options(8, 30));
  for (const int64_t first : {1, 8, 9, 10, 23}) {
    auto o = options(8, 30);
    o.first_step = first;
    CHECK(run(source, o, 3) == std::vector<Step>(whole.begin() + first, whole.end()));
  }
}

TEST_CASE("a batch that grows: passes of one size, each image once an epoch, the same on any ranks and when resumed") {
  const NumberSource source(200);
  Log log(1);
  auto o = options(12, 40);
  o.micro_batches = 2;
  o.grow = {4, 0.5, 2};
  const auto whole = run(source, o);
  const StepMap map({200, 12, 2, o.grow});
  REQUIRE(map.at(39).epoch >= 3);
  std::vector<std::set<int64_t>> epochs(10);
  for (size_t s = 0; s < whole.size(); ++s) {
    const StepImages images = map.at(static_cast<int64_t>(s));
    REQUIRE(whole[s].size() == static_cast<size_t>(images.batch));
    for (const Slot& slot : whole[s]) CHECK(epochs[static_cast<size_t>(images.epoch)].insert(slot.sample).second);
  }
  CHECK(whole.front().size() == 12);
  CHECK(whole.back().size() == 48);
  for (const int ranks : {3, 4}) CHECK(run(source, o, ranks) == whole);
  auto cut = o;
  cut.pipeline = 3;
  CHECK(run(source, cut, 2) == whole);
  const auto pipeline = make_loader(source, cut, log);
  for (int64_t s = 0; s < 40; ++s) {
    const auto batches = pipeline->next();
    REQUIRE(batches.size() == static_cast<size_t>(3 * map.at(s).passes));
    for (const Batch& batch : batches) CHECK(batch.labels.size() == 2);  // of a pass of 6
  }
  for (const int64_t first : {1, 11, 20, 33}) {
    auto later = o;
    later.first_step = first;
    CHECK(run(source, later, 2) == std::vector<Step>(whole.begin() + first, whole.end()));
  }
  o.rank = 1;
  o.ranks = 3;
  const auto loader = make_loader(source, o, log);
  for (int64_t s = 0; s < 40; ++s) {
    const auto batches = loader->next();
    REQUIRE(batches.size() == static_cast<size_t>(map.at(s).passes));
    for (const Batch& b : batches) REQUIRE(b.bytes.dim(0) == 2);
  }
  o.grow.factor = 17;
  CHECK(contains(error_of([&] { make_loader(source, o, log); }), "200 samples, fewer than one global batch of 204"));
}

TEST_CASE("the number of threads changes nothing") {
  const NumberSource source(90);
  auto o = options(12, 20);
  o.data.workers = 1;
  const auto one = run(source, o);
  o.data.workers = 9;
  CHECK(run(source, o) == one);
}

TEST_CASE("flips: half of the images, others in another epoch, none without augment") {
  const NumberSource source(2000);
  const auto steps = run(source, options(1000, 4));
  int64_t flips = 0, changed = 0;
  std::vector<int> first(2000, -1);
  for (size_t s = 0; s < 4; ++s) {
    for (const Slot& slot : steps[s]) {
      flips += slot.flip;
      int& before = first[static_cast<size_t>(slot.sample)];
      if (s >= 2) changed += before != slot.flip;
      before = slot.flip;
    }
  }
  CHECK(std::abs(static_cast<double>(flips) - 2000) < 5 * std::sqrt(1000.0));   // of 4000, five standard deviations
  CHECK(std::abs(static_cast<double>(changed) - 1000) < 5 * std::sqrt(500.0));  // of 2000
  auto o = options(1000, 2);
  o.data.augment.clear();
  for (const Step& step : run(source, o)) {
    for (const Slot& slot : step) REQUIRE(slot.flip == 0);
  }
  o.data.augment = {{"flip", 1.0}};
  for (const Step& step : run(source, o)) {
    for (const Slot& slot : step) REQUIRE(slot.flip == 1);
  }
}

TEST_CASE("a damaged sample stops the run at its step, and names itself") {
  const NumberSource source(60, {17});
  const NumberSource whole(60);
  const auto steps = run(whole, options(10, 6));
  size_t at = 0;
  while (std::none_of(steps[at].begin(), steps[at].end(), [](const Slot& s) { return s.sample == 17; })) ++at;
  Log log(1);
  const auto loader = make_loader(source, options(10, 6), log);
  for (size_t s = 0; s < at; ++s) loader->next();
  CHECK(contains(error_of([&] { loader->next(); }), "number 17 is damaged"));
  CHECK(contains(error_of([&] { loader->next(); }), "number 17 is damaged"));
}

TEST_CASE("of several damaged samples the first in the batch is named, whatever the threads do") {
  std::set<int64_t> damaged;
  for (int64_t i = 0; i < 50; ++i) damaged.insert(i);
  const NumberSource source(50, damaged);
  const NumberSource whole(50);
  const int64_t first = run(whole, options(50, 1))[0][0].sample;
  Log log(1);
  for (int i = 0; i < 20; ++i) {
    auto o = options(50, 1);
    o.data.workers = 8;
    const auto loader = make_loader(source, o, log);
    const std::string error = error_of([&] { loader->next(); });
    CHECK(error.substr(0, error.find('\n')) == fmt::format("number {} is damaged", first));
    CHECK(contains(error, "hint: data.on_error: skip"));
  }
}

TEST_CASE("skip: replaced by a function of seed, epoch and slot, the same on any number of ranks") {
  const NumberSource source(120, {3, 50, 51, 52, 90});
  const NumberSource whole(120);
  auto o = options(20, 12);
  o.data.on_error = "skip";
  const auto one = run(source, o);
  const auto undamaged = run(whole, o);
  int64_t replaced = 0;
  for (size_t s = 0; s < one.size(); ++s) {
    for (size_t i = 0; i < one[s].size(); ++i) {
      const Slot &got = one[s][i], &meant = undamaged[s][i];
      const bool bad =
          source.name(meant.sample) == "3" || (meant.sample >= 50 && meant.sample <= 52) || meant.sample == 90;
      CHECK((got.sample != meant.sample) == bad);
      CHECK(got.label == got.sample * 7 % 1000);
      replaced += bad;
    }
  }
  CHECK(replaced == 10);  // five in each of the two epochs of 6 steps
  for (int ranks = 2; ranks <= 4; ++ranks) CHECK(run(source, o, ranks) == one);
  Log log(1);
  const auto loader = make_loader(source, o, log);
  for (int i = 0; i < 12; ++i) loader->next();
  CHECK(loader->skipped() >= replaced);  // a replacement may be damaged itself
}

TEST_CASE("skipped samples are told of one by one, then ever more rarely, and counted") {
  std::set<int64_t> damaged;
  for (int64_t i = 0; i < 400; i += 2) damaged.insert(i);
  const NumberSource source(400, damaged);
  auto o = options(20, 20);
  o.data.on_error = "skip";
  const TempFolder folder;
  Log log(1);
  log.open_file(folder / "train.log");
  const auto loader = make_loader(source, o, log);
  for (int i = 0; i < 20; ++i) loader->next();
  CHECK(loader->skipped() > 320);  // each second one, and each second replacement
  CHECK(loader->skipped() < 640);
  const std::string text = read_text(folder / "train.log");
  size_t told = 0;
  for (size_t at = 0; (at = text.find("skipped a sample", at)) != std::string::npos; ++at) ++told;
  CHECK(told == 24);  // 1 to 20, 40, 80, 160, 320
  CHECK(contains(text, "number 320 of this rank"));
}

TEST_CASE("skip gives up where nothing can be read") {
  std::set<int64_t> damaged;
  for (int64_t i = 0; i < 30; ++i) damaged.insert(i);
  const NumberSource source(30, damaged);
  auto o = options(5, 1);
  o.data.on_error = "skip";
  Log log(1);
  const auto loader = make_loader(source, o, log);
  CHECK(contains(error_of([&] { loader->next(); }), "cannot be read"));
}

TEST_CASE("impossible sizes are errors with a hint") {
  const NumberSource source(30);
  Log log(1);
  CHECK(contains(error_of([&] { make_loader(source, options(31, 1), log); }),
                 "30 samples, fewer than one global batch of 31"));
  CHECK(contains(error_of([&] { make_loader(source, options(2, 1, 0, 3), log); }), "3 ranks"));
  auto o = options(10, 1, 0, 3);
  o.micro_batches = 4;
  CHECK(contains(error_of([&] { make_loader(source, o, log); }), "micro-batches"));
  o.micro_batches = o.pipeline = 2;
  CHECK(contains(error_of([&] { make_loader(source, o, log); }), "in 4 micro-batches is too small for 3 ranks"));
  const auto unlabelled = make_memory_source({small_png(1)}, {}, "images");
  CHECK(contains(error_of([&] { make_loader(*unlabelled, options(1, 1), log); }), "no labels"));
}

TEST_CASE("the queue is bounded: what nobody takes is not decoded") {
  const NumberSource source(10000);
  Log log(1);
  const auto loader = make_loader(source, options(100, 100), log);
  loader->next();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  CHECK(source.reads.load() <= 600);
  CHECK(loader->take_wait_seconds() >= 0);
}

TEST_CASE("the decoded cache: the same batches, each sample read once") {
  const NumberSource source(100);
  auto o = options(20, 25);
  const auto plain = run(source, o);
  source.reads = 0;
  o.data.cache = "decoded";
  CHECK(run(source, o) == plain);
  CHECK(source.reads.load() == 100);
  source.reads = 0;
  o.data.cache_limit = 64 + 128 + 40 * 11;  // 40 samples of two bytes, a label and a state
  CHECK(run(source, o) == plain);
  CHECK(source.reads.load() == 40 + 5 * 60);
}
