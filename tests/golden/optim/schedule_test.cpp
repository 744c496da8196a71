// Learning rates against PyTorch's schedulers (tests/golden/generate_schedule.py).
#include "optim/schedule.h"
#include "support/catch.h"
#include "support/npy.h"
#include "support/source_dir.h"

using namespace plsc;

TEST_CASE("schedules equal PyTorch's", "[golden]") {
  const Tensor golden = test::read_npy(test::source_dir() + "/tests/golden/optim/data/schedules.npy");
  const int64_t steps = golden.dim(1);
  struct Case {
    std::string name;
    int64_t warmup = 0;
    double final_lr = 0;
    std::optional<double> start_lr{};
  };
  const std::vector<Case> cases = {{"poly"}, {"poly", 7},     {"cosine", 0, 0.002},    {"cosine", 7, 0.002},
                                   {"step"}, {"constant", 7}, {"one_cycle", 0, 0.002}, {"one_cycle", 7, 0.002, 0.05}};
  REQUIRE(golden.dim(0) == static_cast<int64_t>(cases.size()));
  for (size_t row = 0; row < cases.size(); ++row) {
    ScheduleConfig config;
    config.name = cases[row].name;
    config.base_lr = 0.3;
    config.power = 2;
    config.final_lr = cases[row].final_lr;
    config.start_lr = cases[row].start_lr;
    config.warmup_steps = cases[row].warmup;
    config.milestone_steps = {12, 33};
    config.milestones = {2.5};  // of 8 steps: 20
    const Schedule schedule(config, steps, 8);
    for (int64_t t = 0; t < steps; ++t) {
      INFO(config.name << ", warm-up " << config.warmup_steps << ", update " << t);
      // PyTorch's cosine and step schedulers multiply from rate to rate: some 40 roundings of double.
      const double expected = golden.data<double>()[static_cast<int64_t>(row) * steps + t];
      CHECK(schedule.lr(t) == test::Approx(expected).epsilon(1e-12).margin(1e-15));
    }
  }
}
