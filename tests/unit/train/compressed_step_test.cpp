// Whole steps with compressed gradients: what one rank cannot do changes nothing on any, and weights stay equal.
#include <mutex>

#include "base/error.h"
#include "step_fixture.h"
#include "support/catch.h"

namespace plsc::test {
namespace {

StepOptions options() {
  StepOptions o;
  o.head.scale = 16;
  o.compress = {"topk", 0.02, 0, 500, "none"};
  return o;
}

}  // namespace

TEST_CASE("a step that fp16 leaves out keeps weights, momentum and what was not sent on every rank") {
  for (const Fault fault : {Fault::kept_gradient, Fault::backbone_gradient, Fault::center}) {
    run_ranks(2, [&](ThreadRank& self) {
      StepUnderTest step(self, options());
      for (int64_t s = 0; s < 3; ++s)
        if (step.run(s).skipped) throw Error("left out without a fault");
      const StepUnderTest::State before = step.replicated();
      const bool unsent = std::ranges::any_of(before, [](const auto& t) { return t.first.ends_with(" unsent"); });
      if (!unsent) throw Error("nothing is compressed");
      if (!step.run(3, self.rank == 1 ? fault : Fault::none).skipped) throw Error("not left out");
      if (step.replicated() != before) throw Error("something was changed");
      if (step.run(4).skipped) throw Error("the next one is left out, too");
      if (step.replicated() == before) throw Error("nothing was changed");
    });
  }
}

TEST_CASE("weights are equal on all ranks step after step, with passes that only add up among them") {
  for (const int64_t passes : {1, 2}) {
    std::vector<StepUnderTest::State> weights(3);
    run_ranks(3, [&](ThreadRank& self) {
      StepOptions o = options();
      o.micro_batches = passes;
      o.loss_scaling = false;
      o.clip_norm = passes == 1 ? 0 : 0.5;
      StepUnderTest step(self, o);
      for (int64_t s = 0; s < 4; ++s) step.run(s);
      for (auto& [name, bytes] : step.replicated())
        if (name.ends_with(".weight") || name.ends_with(".bias")) weights[static_cast<size_t>(self.rank)][name] = bytes;
    });
    CHECK(weights[0].size() > 8);
    CHECK(weights[1] == weights[0]);
    CHECK(weights[2] == weights[0]);
  }
}

}  // namespace plsc::test
