// Which images a step takes, against a loop that goes through every step, for batches that stay and batches that grow.
#include "config/step_map.h"

#include <cmath>
#include <numbers>
#include <random>
#include <vector>

#include "support/catch.h"

namespace plsc::test {
namespace {

using Sizes = StepMap::Sizes;

std::vector<StepImages> step_by_step(const Sizes& s, int64_t epochs) {
  std::vector<StepImages> steps;
  const int64_t unit = s.batch / s.passes;
  for (int64_t epoch = 0; epoch < epochs; ++epoch) {
    for (int64_t first = 0;;) {
      const double t = static_cast<double>(epoch) + static_cast<double>(first) / static_cast<double>(s.samples);
      int64_t batch = s.batch;
      if (s.grow.factor > 0 && t >= s.grow.until_epoch) batch = s.batch * s.grow.factor;
      if (s.grow.factor > 0 && t > s.grow.from_epoch && t < s.grow.until_epoch) {
        const double p = (t - s.grow.from_epoch) / (s.grow.until_epoch - s.grow.from_epoch);
        const auto least = static_cast<double>(s.batch), most = least * static_cast<double>(s.grow.factor);
        const double images = least + (most - least) / 2 * (1 - std::cos(std::numbers::pi * p));
        // 1e-9: a whole number of passes is that number whatever the cosine's last bit.
        batch = unit * static_cast<int64_t>(std::ceil(images / static_cast<double>(unit) * (1 - 1e-9)));
      }
      if (first + batch > s.samples) break;
      steps.push_back({epoch, first, batch, s.grow.factor > 0 ? batch / unit : s.passes});
      first += batch;
    }
  }
  return steps;
}

void check(const Sizes& sizes, int64_t epochs) {
  const StepMap map(sizes);
  const std::vector<StepImages> steps = step_by_step(sizes, epochs);
  int64_t images = 0, largest = 0;
  std::vector<int64_t> first_of_epoch;
  for (size_t i = 0; i < steps.size(); ++i) {
    const auto step = static_cast<int64_t>(i);
    REQUIRE(map.at(step) == steps[i]);
    REQUIRE(map.images(step) == images);
    REQUIRE(steps[i].batch >= largest);
    REQUIRE(steps[i].first + steps[i].batch <= sizes.samples);
    // Each image once: an epoch's steps take its order without a gap, up to less than what the next step would take.
    if (steps[i].first == 0) {
      first_of_epoch.push_back(step);
    } else {
      REQUIRE(steps[i].first == steps[i - 1].first + steps[i - 1].batch);
    }
    largest = steps[i].batch;
    images += steps[i].batch;
  }
  REQUIRE(first_of_epoch.size() == static_cast<size_t>(epochs));
  for (size_t e = 0; e < first_of_epoch.size(); ++e) {
    const auto epoch = static_cast<int64_t>(e);
    REQUIRE(map.first_step(epoch) == first_of_epoch[e]);
    REQUIRE(map.epochs(first_of_epoch[e]) == static_cast<double>(epoch));
    REQUIRE(map.steps(static_cast<double>(epoch)) == first_of_epoch[e]);
    if (e > 0) REQUIRE(map.steps_in(epoch - 1) == first_of_epoch[e] - first_of_epoch[e - 1]);
  }
  REQUIRE(map.largest_batch() == sizes.batch * std::max<int64_t>(1, sizes.grow.factor));
  // Steps and epochs back and forth: time goes on with every step, and each step is the nearest to its own time.
  for (int64_t step = 1; step < static_cast<int64_t>(steps.size()); ++step) {
    REQUIRE(map.epochs(step) > map.epochs(step - 1));
    REQUIRE(map.steps(map.epochs(step)) == step);
    REQUIRE(map.steps(0.51 * map.epochs(step) + 0.49 * map.epochs(step - 1)) == step);
    REQUIRE(map.steps(0.49 * map.epochs(step) + 0.51 * map.epochs(step - 1)) == step - 1);
    REQUIRE(map.even_steps(step) >= map.even_steps(step - 1));
  }
}

TEST_CASE("a batch that stays: as many steps in each epoch, by the formulas of always") {
  std::mt19937 random(3);
  const auto draw = [&](int64_t least, int64_t most) {
    return std::uniform_int_distribution<int64_t>(least, most)(random);
  };
  for (int i = 0; i < 300; ++i) {
    const int64_t batch = draw(1, 40), samples = batch + draw(0, 500), each = samples / batch;
    const Sizes sizes{samples, batch, draw(1, batch), {}};
    INFO(samples << " samples, batch " << batch);
    check(sizes, 4);
    const StepMap map(sizes);
    CHECK(!map.grows());
    for (int k = 0; k < 20; ++k) {
      const int64_t step = draw(0, 5000);
      const double epochs = 0.01 * static_cast<double>(draw(0, 5000));
      CHECK(map.at(step) == StepImages{step / each, step % each * batch, batch, sizes.passes});
      CHECK(map.epochs(step) == static_cast<double>(step) / static_cast<double>(each));
      CHECK(map.steps(epochs) == std::llround(epochs * static_cast<double>(each)));
      CHECK(map.even_steps(step) == step);
    }
  }
}

TEST_CASE("a batch that grows, against every step of a loop") {
  std::mt19937 random(4);
  const auto draw = [&](int64_t least, int64_t most) {
    return std::uniform_int_distribution<int64_t>(least, most)(random);
  };
  for (int i = 0; i < 300; ++i) {
    const int64_t passes = draw(1, 4), batch = passes * draw(1, 12), factor = draw(2, 9);
    const Sizes sizes{batch * factor + draw(0, 1500),
                      batch,
                      passes,
                      {factor, 0.25 * static_cast<double>(draw(0, 8)), 2.25 + 0.25 * static_cast<double>(draw(0, 12))}};
    INFO(sizes.samples << " samples, batch " << batch << " in " << passes << ", x " << factor << " from "
                       << sizes.grow.from_epoch << " to " << sizes.grow.until_epoch);
    check(sizes, 8);
  }
}

TEST_CASE("a batch of 1 to 9 passes at the quarters of the cosine") {
  // 1 + 4 (1 - cos(pi p)): at p = 1/4 it is 2.17, at 1/2 it is 5, at 3/4 it is 7.83, at 1 it is 9.
  const StepMap map({.samples = 1000, .batch = 10, .passes = 1, .grow = {9, 2, 6}});
  const auto passes = [&](int64_t epoch) { return map.at(map.first_step(epoch)).passes; };
  CHECK(passes(0) == 1);
  CHECK(passes(1) == 1);
  CHECK(passes(2) == 1);
  CHECK(passes(3) == 3);
  CHECK(passes(4) == 5);
  CHECK(passes(5) == 8);
  CHECK(passes(6) == 9);
  CHECK(passes(1000) == 9);
  CHECK(map.at(map.first_step(4)) == StepImages{4, 0, 50, 5});
  CHECK(map.steps_in(1) == 100);
  CHECK(map.steps_in(6) == 11);  // of 90 images; 10 are left over
  CHECK(map.largest_batch() == 90);
  CHECK(map.largest_passes() == 9);
  CHECK(map.first_step(1'000'006) == map.first_step(6) + 11'000'000);
  CHECK(map.steps(1e300) > int64_t{1} << 59);  // never, and no number that has run over
}

TEST_CASE("epochs that nobody will see cost nothing") {
  // A hundred million images, in 1 to 4096 passes over a thousand epochs: steps are not gone through one by one.
  const StepMap map({.samples = 100'000'000, .batch = 16, .passes = 1, .grow = {4096, 0, 1000}});
  CHECK(map.at(map.first_step(500)).passes == 2049);  // 1 + 4095 / 2, rounded up
  CHECK(map.at(map.first_step(1000)).passes == 4096);
}

TEST_CASE("the configuration of the largest steps") {
  TrainConfig train;
  train.batch_size = 64;
  train.accumulate = 2;
  train.grow = {8, 0, 1};
  const TrainConfig largest = with_largest_batch(train);
  CHECK(largest.batch_size == 512);
  CHECK(largest.batch_per_rank == 0);
  CHECK(largest.accumulate == 16);
  CHECK(largest.grow == GrowConfig{});
  train.grow = {};
  CHECK(with_largest_batch(train) == train);
  CHECK(growth(train) == 1);
}

}  // namespace
}  // namespace plsc::test
