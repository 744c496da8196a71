// Without loss scaling a loss or a gradient that is not finite ends the run: the host hears of it when it takes that
// step, while the next one is under way already, and no weight has changed since.
#include <limits>

#include "step_fixture.h"
#include "support/catch.h"
#include "support/error_text.h"

namespace plsc::test {
namespace {

StepOptions plain() {
  StepOptions options;
  options.head.scale = 16;
  options.loss_scaling = false;
  return options;
}

TEST_CASE("a loss that is not finite is told a step late at most, by its step, and no weight has changed") {
  for (const int64_t micro_batches : {1, 2}) {
    run_ranks(3, [&](ThreadRank& rank) {
      StepOptions options = plain();
      options.micro_batches = micro_batches;
      StepUnderTest one(rank, options);
      one.start(0);
      one.start(1);
      PLSC_CHECK(one.take().step == 1);
      PLSC_CHECK(one.take().step == 2);
      const auto replicated = one.replicated(), rows = one.rows();
      one.start(2, rank.rank == 1 ? Fault::center : Fault::none);
      one.start(3);  // given to the device before anybody has looked at it
      const std::string text = error_text([&] { one.take(); });
      PLSC_CHECK(contains_all(text, {"step 3:", "loss is not finite", "no weight was changed"}), "{}", text);
      PLSC_CHECK(one.replicated() == replicated && one.rows() == rows, "rank {}", rank.rank);
    });
  }
}

TEST_CASE("a gradient of the backbone that is not finite on one rank is told by its step, on every rank") {
  run_ranks(3, [](ThreadRank& rank) {
    StepUnderTest one(rank, plain());
    one.run(0);
    const auto replicated = one.replicated();
    one.start(1, rank.rank == 2 ? Fault::backbone_gradient : Fault::none);
    const auto rows = one.rows();
    one.start(2);
    const std::string text = error_text([&] { one.take(); });
    PLSC_CHECK(contains_all(text, {"gradient is not finite", "at step 2"}), "{}", text);
    // The head is updated in its backward pass, before the backbone's: that step's rows are in no checkpoint.
    PLSC_CHECK(one.replicated() == replicated && one.rows() == rows, "rank {}", rank.rank);
  });
}

TEST_CASE("a record is that of its step, with others under way") {
  run_ranks(2, [](ThreadRank& rank) {
    std::vector<double> alone, ahead;
    StepUnderTest one(rank, plain()), other(rank, plain());
    for (int64_t t = 0; t < 3; ++t) alone.push_back(one.run(t).loss);
    for (int64_t t = 0; t < 3; ++t) other.start(t);
    for (int64_t t = 0; t < 3; ++t) {
      const StepRecord record = other.take();
      ahead.push_back(record.loss);
      PLSC_CHECK(record.step == t + 1 && record.samples == kBatch && !record.skipped && !record.loss_scale);
    }
    PLSC_CHECK(alone == ahead && alone[0] != alone[1]);
  });
}

}  // namespace
}  // namespace plsc::test
