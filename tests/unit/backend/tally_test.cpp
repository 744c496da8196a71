// What a dry run counts, and in which order.
#include "backend/dry/tally.h"

#include "backend/dry/dry_device.h"
#include "support/catch.h"

using namespace plsc;

namespace {

/// "o0 +1 -1@0": what each moment is, its phase, and of a wait the phase of its start.
std::string text_of(const DryCounts& counts) {
  std::string out;
  for (const DryMoment& m : counts.moments) {
    out += out.empty() ? "" : " ";
    out += m.kind == DryMoment::Kind::work ? "o" : m.kind == DryMoment::Kind::start ? "+" : "-";
    out += std::to_string(m.phase);
    if (m.kind == DryMoment::Kind::wait) out += "@" + std::to_string(m.began_in) + "." + std::to_string(m.index);
  }
  return out;
}

}  // namespace

TEST_CASE("tally: moments stand in their order, by phases that have any") {
  DryTally tally;  // the phase without a name stays empty
  tally.begin("forward");
  tally.add({.flop = 1});
  const int64_t first = tally.start({8, 2, 6});
  tally.begin("nothing");
  tally.begin("backward");
  tally.add({.flop = 2});
  const int64_t second = tally.start({4, 1, 3});
  tally.wait(first);
  tally.begin("forward");
  tally.wait(second);
  const DryCounts counts = tally.counts();
  REQUIRE(counts.phases.size() == 2);
  CHECK(counts.phases[0].name == "forward");
  CHECK(counts.phases[0].wire == 6);
  CHECK(counts.phases[1].transfers.at(0).bytes == 4);
  CHECK(text_of(counts) == "o0 +0 o1 +1 -1@0.0 -0@1.0");
}

TEST_CASE("tally: what was begun in a step that is forgotten is not waited for in the next") {
  DryTally tally;
  const int64_t before = tally.start({1, 1, 1});
  tally.clear();
  tally.begin("step");
  const int64_t now = tally.start({2, 1, 1});
  CHECK(now != before);
  tally.wait(before);
  tally.wait(now);
  CHECK(text_of(tally.counts()) == "+0 -0@0.0");
}

TEST_CASE("tally: recorded work counts where it is played back, as often as it is") {
  DryTally tally;
  DryDevice device(DeviceKind::cuda, 1, {}, &tally);
  tally.begin("step");
  device.begin_recording(device.make_recording_memory());
  tally.add({.flop = 1});
  tally.add({.flop = 2});
  const auto recording = device.end_recording();
  CHECK(tally.counts().moments.empty());
  const int64_t transfer = tally.start({1, 1, 1});
  recording->replay();
  tally.wait(transfer);
  CHECK(text_of(tally.counts()) == "+0 o0 o0 -0@0.0");
  recording->replay();
  CHECK(tally.counts().phases.at(0).work.size() == 4);
}
