// The learning rate as a function of the update's number: ends, borders, epochs, errors.
#include "optim/schedule.h"

#include "support/catch.h"
#include "support/error_text.h"

using namespace plsc;
using namespace plsc::test;

namespace {

ScheduleConfig config_of(const std::string& name) {
  ScheduleConfig config;
  config.name = name;
  config.base_lr = 0.4;
  return config;
}

}  // namespace

TEST_CASE("warm-up reaches the base rate at its last update") {
  for (const char* name : {"poly", "cosine", "step", "constant"}) {
    ScheduleConfig config = config_of(name);
    config.warmup_steps = 4;
    const Schedule s(config, 20, 5);
    CHECK(s.lr(0) == test::Approx(0.1));
    CHECK(s.lr(2) == test::Approx(0.3));
    CHECK(s.lr(3) == test::Approx(0.4));
    CHECK(s.lr(4) == test::Approx(0.4));  // the decay starts from the base
  }
}

TEST_CASE("decays end above or at the final rate, and stay there") {
  ScheduleConfig config = config_of("poly");
  config.power = 1;
  const Schedule linear(config, 10, 5);
  CHECK(linear.lr(5) == test::Approx(0.2));
  CHECK(linear.lr(9) == test::Approx(0.04));  // no update is wasted on a rate of 0
  CHECK(linear.lr(10) == 0);
  CHECK(linear.lr(1000) == 0);

  config = config_of("cosine");
  config.final_lr = 0.1;
  const Schedule cosine(config, 10, 5);
  CHECK(cosine.lr(5) == test::Approx(0.25));
  CHECK(cosine.lr(10) == test::Approx(0.1));
}

TEST_CASE("epochs become steps") {
  ScheduleConfig config = config_of("step");
  config.warmup_epochs = 0.5;
  config.warmup_steps = 3;  // epochs win
  config.milestones = {2, 1};
  config.milestone_steps = {25};
  config.factor = 0.5;
  const Schedule s(config, 100, 10);
  CHECK(s.warmup_steps() == 5);
  CHECK(s.lr(4) == test::Approx(0.4));
  CHECK(s.lr(9) == test::Approx(0.4));
  CHECK(s.lr(10) == test::Approx(0.2));  // a milestone counts from its own update on
  CHECK(s.lr(20) == test::Approx(0.1));
  CHECK(s.lr(25) == test::Approx(0.05));
}

TEST_CASE("a run that is all warm-up, and one that is too short for it") {
  ScheduleConfig config = config_of("poly");
  config.warmup_steps = 10;
  const Schedule s(config, 10, 5);
  CHECK(s.lr(9) == test::Approx(0.4));
  CHECK(s.lr(10) == 0);
  const Schedule cut(config, 4, 5);  // a short trial of the same recipe: the same first rates
  for (int64_t step = 0; step < 4; ++step) CHECK(cut.lr(step) == s.lr(step));
  CHECK(contains(error_text([&] { Schedule(config_of("polly"), 9, 5); }), "poly, step, cosine, constant"));
}
