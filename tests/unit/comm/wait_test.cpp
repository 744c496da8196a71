// Waiting, with a request and a watch that do as the test says.
#include "comm/wait.h"

#include "base/clock.h"
#include "support/catch.h"
#include "support/error_text.h"

using namespace plsc;
using namespace plsc::test;

namespace {

class FakeRequest final : public Request {
 public:
  explicit FakeRequest(int64_t left) : left_(left) {}
  bool poll() override {
    ++polls;
    return left_-- <= 0;
  }
  int64_t polls = 0;

 private:
  int64_t left_;
};

class FakeWatch final : public WaitWatch {
 public:
  void begin_wait(const std::string& what) override {
    ++begun;
    last = what;
  }
  void end_wait() noexcept override { ++ended; }
  void withdraw_wait() noexcept override { ++withdrawn; }
  void check_peers() override {
    if (++checks >= lost_after) throw PeerLost("rank 2 died", Voice::wait);
  }
  MissingReport missing() override { return {"Missing: rank 3", Voice::wait}; }

  int begun = 0, ended = 0, withdrawn = 0;
  int64_t checks = 0, lost_after = 1'000'000'000;
  std::string last;
};

constexpr int64_t kNever = 1'000'000'000'000;

}  // namespace

TEST_CASE("a wait ends with its request, spinning or not") {
  for (const bool spin : {true, false}) {
    FakeWatch watch;
    FakeRequest at_once(0), later(5000);  // beyond the spins
    wait_for(at_once, "nothing", {10, spin, &watch});
    wait_for(later, "something", {10, spin, &watch});
    CHECK(later.polls == 5001);
    CHECK(watch.begun == 2);
    CHECK(watch.ended == 2);
    CHECK(watch.last == "something");
    WaitPolicy own{10, spin, &watch};
    own.common = false;
    FakeRequest aside(3);
    wait_for(aside, "what this rank alone waits for", own);
    CHECK(watch.begun == 3);
    CHECK(watch.ended == 2);
    CHECK(watch.withdrawn == 1);
    FakeRequest unwatched(10);
    CHECK_NOTHROW(wait_for(unwatched, "x", {10, spin, nullptr}));
  }
}

TEST_CASE("a time-out says what was waited for and who is missing") {
  FakeWatch watch;
  FakeRequest never(kNever);
  const Stopwatch watch_time;
  try {
    wait_for(never, "gradient bucket 3", {0.2, true, &watch});
    FAIL("nothing was thrown");
  } catch (const TimeoutError& error) {
    CHECK(contains_all(error.what(), {"0.2 s", "gradient bucket 3", "Missing: rank 3", "comm.timeout"}));
    CHECK(error.voice() == Voice::wait);
  }
  CHECK(watch_time.seconds() >= 0.2);
  CHECK(watch.ended == 1);
  FakeRequest unwatched(kNever);
  CHECK(contains(error_text([&] { wait_for(unwatched, "x", {0.05, false, nullptr}); }), "no monitor"));
}

TEST_CASE("a lost rank ends the wait long before the time-out") {
  FakeWatch watch;
  watch.lost_after = 50;
  FakeRequest never(kNever);
  CHECK_THROWS_AS(wait_for(never, "x", {600, true, &watch}), PeerLost);
  CHECK(watch.checks == 50);
  CHECK(watch.ended == 1);
}

TEST_CASE("a long wait sleeps between its polls") {
  FakeRequest never(kNever);
  error_text([&] { wait_for(never, "x", {0.5, true, nullptr}); });
  // 50 us of polls at 20 ns or more each, then sleeps of 50 us or more; a loop without sleep makes millions.
  CHECK(never.polls < 20'000);
}

TEST_CASE("polls that take long do not make it spin for longer") {
  class Slow final : public Request {
   public:
    bool poll() override {
      ++polls;
      for (const Stopwatch time; time.seconds() < 10e-6;) {
      }
      return since_start.seconds() > 0.02;
    }
    int64_t polls = 0;
    Stopwatch since_start;
  } slow;
  wait_for(slow, "x", {10, true, nullptr});
  // At most one in 60 us once it has waited for 50 us; 2000 polls without a sleep would be all of the time.
  CHECK(slow.polls <= 6 + static_cast<int64_t>(slow.since_start.seconds() / 60e-6));
}
