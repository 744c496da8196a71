// Gradient accumulation: what a pass of a step sends, and that the passes together are one batch.
#include "passes.h"
#include "support/catch.h"

using namespace plsc;
using namespace plsc::test;

namespace {

/// The calls of each phase, in order: {"head", calls}, ...
std::vector<std::pair<std::string, std::vector<std::string>>> phases_of(const std::vector<std::string>& calls) {
  std::vector<std::pair<std::string, std::vector<std::string>>> phases{{"", {}}};
  for (const std::string& call : calls) {
    if (call.starts_with("phase ")) {
      phases.push_back({call.substr(6), {}});
    } else {
      phases.back().second.push_back(call);
    }
  }
  return phases;
}

}  // namespace

TEST_CASE("the ranks exchange gradients in the last pass of a step alone, and as much as in a step of one pass") {
  std::vector<std::string> of_one_pass;
  for (const int64_t passes : {1, 2, 3}) {
    INFO(passes << " passes");
    int64_t forward = 0, heads = 0, backward = 0;
    std::vector<std::string> head_calls;
    for (const auto& [phase, calls] : phases_of(train({.ranks = 2, .passes = passes, .steps = 2}).calls)) {
      INFO(phase);
      if (phase == "forward") {
        ++forward;
        CHECK(calls.empty());
      } else if (phase == "head") {
        // Embeddings out, sums of the logits, gradients of the embeddings back: the price of a split head, each time.
        CHECK(calls.size() == 8);
        if (heads++ > 0) CHECK(calls == head_calls);
        head_calls = calls;
      } else if (phase == kBackwardPhase) {
        if (++backward < passes) {
          CHECK(calls.empty());
          continue;
        }
        // The network's gradients, and the statistics of its batch norms.
        REQUIRE(calls.size() == 4);
        CHECK(calls[0].starts_with("all-reduce f32"));
        CHECK(calls[1].starts_with("all-reduce f64"));
        if (of_one_pass.empty()) of_one_pass = calls;
        CHECK(calls == of_one_pass);
      }
    }
    CHECK(forward == passes);
    CHECK(heads == passes);
    CHECK(backward == passes);
  }
}

TEST_CASE("several passes are the step of one batch, where batch norm measures nothing") {
  for (const char* name : {"iresnet", "plsc", "basic", "bottleneck"}) {
    for (const int ranks : {1, 2}) {
      const Training whole{.net = name, .ranks = ranks, .frozen_norms = true};
      const Outcome one = train(whole);
      for (const int64_t passes : {2, 3}) {
        INFO(name << " on " << ranks << " ranks in " << passes << " passes");
        Training parts = whole;
        parts.passes = passes;
        const Outcome some = train(parts);
        REQUIRE(some.backbone.size() == one.backbone.size());
        // The same sums in another order, in fp32.
        for (size_t j = 0; j < one.backbone.size(); ++j)
          CHECK(relative_error(some.backbone[j], one.backbone[j]) < 1e-5);
        CHECK(some.losses[0] == test::Approx(one.losses[0]).epsilon(1e-6));
        CHECK(relative_error(some.centers, one.centers) < 1e-5);  // of each element
      }
    }
  }
}

TEST_CASE("with exact sums the network's weights are those of one batch to the bit, on any number of ranks") {
  for (const char* name : {"iresnet", "bottleneck"}) {
    const Training whole{.net = name, .exact = true, .frozen_norms = true};
    const Outcome one = train(whole);
    for (const int ranks : {1, 2}) {
      for (const int64_t passes : {2, 3}) {
        INFO(name << " on " << ranks << " ranks in " << passes << " passes");
        Training parts = whole;
        parts.ranks = ranks;
        parts.passes = passes;
        CHECK(train(parts).backbone == one.backbone);
      }
    }
  }
}

TEST_CASE("with batch norm each pass measures its own images: another training") {
  CHECK(train({.passes = 2, .exact = true}).backbone != train({.exact = true}).backbone);
}
