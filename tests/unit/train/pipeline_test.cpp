// The pipeline of a step's micro-batches: the same numbers as one after another, and work between what the ranks send
// and what they wait for.
#include <algorithm>
#include <cstring>
#include <map>

#include "passes.h"
#include "support/catch.h"
#include "train/step_order.h"

using namespace plsc;
using namespace plsc::test;

namespace {

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && !a.empty() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// `training` as a pipeline of `together` micro-batches (0: all) has the bits of one micro-batch after another.
void check_same(const Training& training, int64_t together = 0) {
  Training pipeline = training;
  pipeline.together = together > 0 ? together : training.passes;
  const Outcome one_by_one = train(training), overlapping = train(pipeline);
  REQUIRE(overlapping.backbone.size() == one_by_one.backbone.size());
  for (size_t j = 0; j < one_by_one.backbone.size(); ++j)
    CHECK(same_bits(overlapping.backbone[j], one_by_one.backbone[j]));
  CHECK(same_bits(overlapping.centers, one_by_one.centers));
  CHECK(same_bits(overlapping.losses, one_by_one.losses));
}

}  // namespace

TEST_CASE("every stage takes the micro-batches in order, and a pipeline has another one between two of its stages") {
  for (const size_t together : {1, 2, 3, 5}) {
    for (const size_t parts : {1, 3}) {
      INFO(parts << " x " << together << " micro-batches");
      const std::vector<StageOf> order = step_order(parts * together, together);
      REQUIRE(order.size() == 4 * parts * together);
      std::map<Stage, size_t> next;         // micro-batch of each stage
      std::map<size_t, size_t> stages, at;  // done of each micro-batch, and the place of the last
      for (size_t i = 0; i < order.size(); ++i) {
        const auto& [stage, batch] = order[i];
        CHECK(next[stage]++ == batch);
        CHECK(static_cast<size_t>(stage) == stages[batch]++);
        if (stage != Stage::forward) CHECK((i > at[batch] + 1) == (together > 1));
        at[batch] = i;
        // One part of the step behind the other.
        CHECK(next[Stage::forward] - next[Stage::backward] <= together);
      }
    }
  }
}

TEST_CASE("a pipeline trains to the bits of its micro-batches one after another") {
  for (const char* name : {"iresnet", "plsc", "basic", "bottleneck"}) {
    for (const int ranks : {1, 2, 3}) {
      INFO(name << " on " << ranks << " ranks");
      check_same({.net = name, .ranks = ranks, .passes = 2, .steps = 2});
    }
  }
  for (const int64_t passes : {3, 4, 6}) {
    INFO(passes << " micro-batches");
    check_same({.net = "basic", .passes = passes, .steps = 2});
    check_same({.ranks = 2, .passes = passes, .batch = 4 * passes, .exact = passes == 4, .steps = 2});
  }
  // Of each pass of an accumulation.
  check_same({.passes = 6, .steps = 2}, 2);
  check_same({.ranks = 2, .passes = 6, .batch = 24, .steps = 2}, 3);
}

TEST_CASE("a pipeline of sampled and of other heads, of recomputed parts and of synchronised batch norms") {
  HeadConfig sampled;
  sampled.sampling.method = "uniform";
  sampled.sampling.ratio = 0.7;
  HeadConfig lazy = sampled;
  lazy.update = "lazy";
  HeadConfig far = sampled;
  far.store.tier = "host";
  HeadConfig linear;
  linear.kind = "linear";
  HeadConfig dissected;
  dissected.kind = "d_softmax";
  for (const HeadConfig& head : {sampled, lazy, far, linear, dissected}) {
    INFO(head.kind << ", " << head.sampling.method << ", " << head.update << ", " << head.store.tier);
    check_same({.ranks = 2, .passes = 3, .steps = 3, .head = head});
    check_same({.ranks = 1, .passes = 2, .exact = true, .steps = 2, .head = head});
  }
  check_same({.ranks = 2, .passes = 6, .batch = 24, .steps = 2, .recompute = {"all"}});
  check_same({.net = "basic", .passes = 6, .steps = 2, .recompute = {"stem", "layer2"}});
  check_same({.ranks = 3, .passes = 2, .exact = true, .steps = 2, .recompute = {"layer1"}, .synchronised = true});
  check_same({.ranks = 2, .passes = 6, .frozen_norms = true, .steps = 2});
}

TEST_CASE("with exact sums and synchronised batch norms a pipeline is the same on any number of ranks") {
  const Training one{.passes = 3, .exact = true, .steps = 2, .together = 3, .synchronised = true};
  const Outcome alone = train(one);
  for (const int ranks : {2, 3}) {
    INFO(ranks << " ranks");
    Training several = one;
    several.ranks = ranks;
    const Outcome together = train(several);
    CHECK(together.backbone == alone.backbone);
    for (size_t i = 0; i < alone.losses.size(); ++i) CHECK(together.losses[i] == test::Approx(alone.losses[i]));
  }
}

TEST_CASE("while a micro-batch's exchange is under way another one is computed") {
  const std::vector<std::string> waited{"wait: embeddings", "wait: sums of the logits",
                                        "wait: gradient of the embeddings"};
  for (const bool pipeline : {false, true}) {
    for (const int64_t passes : {2, 5}) {
      INFO(passes << " micro-batches" << (pipeline ? " as a pipeline" : ""));
      // Phases between the last start of an exchange and its wait, for each exchange that is waited for.
      const auto calls =
          train({.ranks = 2, .passes = passes, .batch = 4 * passes, .together = pipeline ? passes : 1}).calls;
      int64_t waits = 0, hidden = 0;
      std::map<std::string, std::vector<size_t>> started;  // where, by what is waited for
      for (size_t i = 0; i < calls.size(); ++i) {
        if (calls[i].starts_with("all-gather f32")) started[waited[0]].push_back(i);
        if (calls[i].starts_with("all-reduce f64 (2, ")) started[waited[1]].push_back(i);
        if (calls[i].starts_with("reduce-scatter f32")) started[waited[2]].push_back(i);
        const auto of = started.find(calls[i]);
        if (of == started.end()) continue;
        REQUIRE(!of->second.empty());
        const auto begin = calls.begin() + static_cast<std::ptrdiff_t>(of->second.front());
        const auto end = calls.begin() + static_cast<std::ptrdiff_t>(i);
        of->second.erase(of->second.begin());
        ++waits;
        // Of another micro-batch: its own begins with the wait.
        hidden += std::count_if(begin, end, [](const std::string& c) { return c.starts_with("phase "); }) > 1 ? 1 : 0;
      }
      CHECK(waits == 3 * passes);
      CHECK(hidden == (pipeline ? waits : 0));
    }
  }
}
