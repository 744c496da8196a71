// When the class graph is built and probed.
#include "train/graph_schedule.h"

#include <vector>

#include "support/catch.h"

namespace plsc::test {
namespace {

struct Events {
  std::vector<int64_t> builds, probes;
};
/// Of a run of `total` steps whose probes all pass; `lost`: a step from which it has to do without its graph.
Events run(const GraphSchedule& schedule, int64_t total, int64_t lost = -1) {
  Events events;
  bool built = false;
  for (int64_t done = 0; done <= total; ++done) {
    if (done == lost) built = false;
    const GraphAction action = schedule.at(done, built);
    if (action == GraphAction::build) events.builds.push_back(done);
    if (action == GraphAction::probe) events.probes.push_back(done);
    built |= action == GraphAction::build;
  }
  return events;
}

using Steps = std::vector<int64_t>;

TEST_CASE("the first graph comes behind the warm-up or the first epoch, others by epochs") {
  CHECK(run({{1.0, {}}, 15, 10}, 50).builds == Steps{15, 25, 35, 45});
  CHECK(run({{1.0, {}}, 0, 10}, 35).builds == Steps{10, 20, 30});
  CHECK(run({{2.5, {}}, 3, 10}, 60).builds == Steps{3, 28, 53});
  CHECK(run({{0.25, {}}, 8, 10}, 17).builds == Steps{8, 11, 14, 17});  // 2.5 steps are 3
  CHECK(run({{1e-9, {}}, 8, 10}, 11).builds == Steps{8, 9, 10, 11});
  CHECK(run({{0.0, {}}, 8, 10}, 100).builds == Steps{8});
  CHECK(run({{1e300, {}}, 8, 10}, 100).builds == Steps{8});
  CHECK(run({{1.0, {}}, 8, 10}, 100).probes.empty());
}

TEST_CASE("probes come four times an epoch, and not where the graph is built anyway") {
  const Events probed = run({{0.0, 0.9}, 8, 20}, 30);
  CHECK(probed.builds == Steps{8});
  CHECK(probed.probes == Steps{13, 18, 23, 28});
  const Events both = run({{0.5, 0.9}, 8, 20}, 30);
  CHECK(both.builds == Steps{8, 18, 28});
  CHECK(both.probes == Steps{13, 23});
  CHECK(run({{0.0, 0.9}, 8, 1}, 11).probes == Steps{9, 10, 11});
}

TEST_CASE("where the batch grows, graphs still come by epochs") {
  // 96 images in batches of 8, 12 steps an epoch, up to batches of 32, 3 an epoch, from the second epoch on.
  const StepMap map({.samples = 96, .batch = 8, .passes = 1, .grow = {4, 0, 1}});
  const int64_t first = map.first_step(1);
  REQUIRE(first < 12);
  REQUIRE(map.steps_in(1) == 3);
  const Events events = run(GraphSchedule({2.0, {}}, 0, map), first + 12);
  CHECK(events.builds == Steps{first, first + 6, first + 12});
  // Four probes an epoch are more than it has steps: one behind each.
  const Events probed = run(GraphSchedule({0.0, 0.9}, 0, map), first + 5);
  CHECK(probed.builds == Steps{first});
  CHECK(probed.probes == Steps{first + 1, first + 2, first + 3, first + 4, first + 5});
  // Behind a warm-up within the epoch of growth: whole epochs from there, by the images.
  const Events warm = run(GraphSchedule({1.0, {}}, 2, map), first + 6);
  REQUIRE(warm.builds.size() == 3);
  CHECK(warm.builds[0] == 2);
  CHECK(warm.builds[1] == first + 1);  // 1 1/6 epochs; a step is a third
  CHECK(warm.builds[2] == first + 4);
}

TEST_CASE("a run without a graph builds one at once, but not before the first is due") {
  CHECK(run({{3.0, {}}, 8, 10}, 40, 9).builds == Steps{8, 9, 38});
  CHECK(run({{0.0, {}}, 8, 10}, 40, 9).builds == Steps{8, 9});
  CHECK(run({{0.0, 0.9}, 8, 20}, 40, 9).builds == Steps{8, 9});
  const GraphSchedule schedule({0.0, {}}, 8, 10);
  CHECK(schedule.at(7, false) == GraphAction::none);
  for (const int64_t done : {8, 9, 1000}) CHECK(schedule.at(done, false) == GraphAction::build);
}

}  // namespace
}  // namespace plsc::test
