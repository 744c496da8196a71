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

TEST_CASE("where the batch grows, epochs are the steps that they have") {
  // 12 steps of 8 images in epoch 0, 3 of 32 from epoch 2 on.
  const StepMap map({.samples = 96, .batch = 8, .passes = 1, .grow = {4, 1, 2}});
  ScheduleConfig config = config_of("step");
  config.warmup_epochs = 1;
  config.milestones = {2, 4};
  config.factor = 0.5;
  const int64_t first = map.first_step(2), second = first + 6;
  REQUIRE(first < 24);
  const Schedule s(config, map.first_step(5), map);
  CHECK(s.warmup_steps() == 12);
  CHECK(s.lr(first - 1) == test::Approx(0.4));
  CHECK(s.lr(first) == test::Approx(0.2));
  CHECK(s.lr(second - 1) == test::Approx(0.2));
  CHECK(s.lr(second) == test::Approx(0.1));
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

TEST_CASE("a warm-up may rise from another rate than 0") {
  ScheduleConfig config = config_of("constant");
  config.warmup_steps = 4;
  config.start_lr = 0.2;
  const Schedule s(config, 20, 5);
  CHECK(s.lr(0) == test::Approx(0.25));
  CHECK(s.lr(3) == test::Approx(0.4));
  CHECK(s.lr(4) == test::Approx(0.4));
}

TEST_CASE("one cycle: from a 25th to the base rate in .3 of the run, then down to the final rate") {
  ScheduleConfig config = config_of("one_cycle");
  config.final_lr = 0.001;
  const Schedule s(config, 20, 5);
  CHECK(s.warmup_steps() == 6);
  CHECK(s.lr(0) == test::Approx(0.016));
  CHECK(s.lr(5) == test::Approx(0.4));
  CHECK(s.lr(12) == test::Approx((0.4 + 0.001) / 2));  // half-way between updates 5 and 19
  CHECK(s.lr(19) == test::Approx(0.001));
  CHECK(s.lr(20) == test::Approx(0.001));

  config.warmup_steps = 1;  // nothing to rise along
  CHECK(Schedule(config, 20, 5).lr(0) == test::Approx(0.4));
  config.warmup_steps = 20;  // nothing to fall along
  CHECK(Schedule(config, 20, 5).lr(19) == test::Approx(0.4));
  CHECK(Schedule(config, 20, 5).lr(20) == test::Approx(0.001));
}

// The peers' rates, written out from their published programs' formulas by hand (base .1 unless said otherwise).

TEST_CASE("insightface_2022: the published run's .0250 half-way") {
  ScheduleConfig config;
  config.base_lr = 0.1;
  config.compat = "insightface_2022";
  // MS1MV3: 5,179,510 images, batches of 1,024, 20 epochs.
  const int64_t epoch = 5179510 / 1024, total = 20 * epoch;
  const Schedule s(config, total, epoch);
  CHECK(s.lr(0) == 0.1);
  CHECK(s.lr(total / 2) == test::Approx(0.025).epsilon(1e-12));
  CHECK(s.lr(total - 1) > 0);
  CHECK(s.lr(total) == 0);

  // With a warm-up their first update has a rate of 0, and update w the whole one.
  config.warmup_epochs = 2;
  const Schedule warm(config, 20, 4);
  CHECK(warm.lr(0) == 0);
  CHECK(warm.lr(6) == test::Approx(0.075));
  CHECK(warm.lr(8) == test::Approx(0.1));
  CHECK(warm.lr(14) == test::Approx(0.025));
}

TEST_CASE("insightface_head: the whole rate in the very first pass, then a straight line, counted in passes") {
  ScheduleConfig config;
  config.base_lr = 0.1;
  config.power = 1;
  config.compat = "insightface_head";
  config.warmup_steps = 4;
  const Schedule s(config, 12, 4);
  CHECK(s.lr(0) == 0.1);
  CHECK(s.lr(1) == test::Approx(0.025));
  CHECK(s.lr(4) == test::Approx(0.1));
  CHECK(s.lr(8) == test::Approx(0.05));
  CHECK(s.lr(11) == test::Approx(0.1 / 8));

  // Two passes an update: 24 passes in all, 8 of warm-up. Update t steps behind pass 2 t + 2, at the rate of m = 2 t
  // + 1.
  const Schedule twice(config, 12, 4, 2);
  CHECK(twice.lr(0) == test::Approx(0.1 / 8));
  CHECK(twice.lr(3) == test::Approx(0.1 * 7 / 8));
  CHECK(twice.lr(4) == test::Approx(0.1 * 15 / 16));
  CHECK(twice.lr(11) == test::Approx(0.1 / 16));
}

TEST_CASE("plsc: a warm-up from its start, a square, steps, and a cosine over the whole run") {
  ScheduleConfig config;
  config.base_lr = 0.1;
  config.compat = "plsc";
  config.warmup_steps = 4;
  config.start_lr = 0.02;
  const Schedule poly(config, 12, 4);
  CHECK(poly.lr(0) == test::Approx(0.02));
  CHECK(poly.lr(2) == test::Approx(0.06));
  CHECK(poly.lr(4) == test::Approx(0.1));
  CHECK(poly.lr(8) == test::Approx(0.025));

  config.name = "cosine";
  config.final_lr = 0.01;
  const Schedule cosine(config, 12, 4);
  CHECK(cosine.lr(1) == test::Approx(0.04));
  CHECK(cosine.lr(6) == test::Approx(0.055));  // half of the run, and not of what the warm-up leaves
  CHECK(cosine.lr(12) == test::Approx(0.01));

  config.name = "step";
  config.milestone_steps = {6, 10};
  const Schedule step(config, 12, 4);
  CHECK(step.lr(3) == test::Approx(0.08));
  CHECK(step.lr(5) == test::Approx(0.1));
  CHECK(step.lr(6) == test::Approx(0.01));
  CHECK(step.lr(11) == test::Approx(0.001));
}

TEST_CASE("a sequence that nobody knows is named") {
  ScheduleConfig config = config_of("poly");
  config.compat = "plsc_1";
  CHECK(contains(error_text([&] { Schedule(config, 9, 5); }), "insightface_2022, insightface_head, plsc"));
}
