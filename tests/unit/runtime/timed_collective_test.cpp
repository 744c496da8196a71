// What is noted of collectives: kinds, names, bytes, and the time that they kept the rank from its work.
#include "runtime/timed_collective.h"

#include <thread>

#include "base/clock.h"
#include "support/catch.h"
#include "support/collective_cases.h"
#include "support/fake_device.h"
#include "support/thread_world.h"

using namespace plsc;
using namespace plsc::test;

namespace {

constexpr auto kPause = std::chrono::milliseconds(30);
constexpr double kSeconds = 0.03;

/// A request that is complete when it is looked at after a pause, and knows when that was.
class Slow final : public Request {
 public:
  bool poll() override {
    if (steady_seconds() < end_) return false;
    return true;
  }
  std::optional<double> ended() const override { return steady_seconds() < end_ ? std::nullopt : std::optional(end_); }

 private:
  double end_ = steady_seconds() + kSeconds;
};

class SlowCollective final : public Collective {
 public:
  int rank() const override { return 0; }
  int size() const override { return 2; }
  Pending start_all_reduce(Tensor&, ReduceOp) override { return std::make_unique<Slow>(); }
  Pending start_all_reduce_bf16(Tensor&) override { return std::make_unique<Slow>(); }
  Pending start_all_gather(const Tensor&, Tensor&) override { return std::make_unique<Slow>(); }
  Pending start_reduce_scatter(const Tensor&, Tensor&) override { return std::make_unique<Slow>(); }
  Pending start_broadcast(Tensor&, int) override { return std::make_unique<Slow>(); }
  Pending start_barrier() override { return std::make_unique<Slow>(); }
  std::unique_ptr<Collective> split(int, Collective&) override { return std::make_unique<SlowCollective>(); }
  void wait(Pending pending, const std::string&) override {
    while (!pending->poll()) std::this_thread::yield();
  }
  int64_t bytes_sent() const override { return 7; }
};

struct Noted {
  FakeDevice device{false};
  SlowCollective inner;
  CommTimes times;
  std::unique_ptr<Collective> comm = make_timed_collective(device, inner, times);
  Tensor t = device.zeros({100}), all = device.zeros({200});
};

}  // namespace

TEST_CASE("a timed collective does what the one below it does") {
  FakeDevice device(false);
  CommTimes times;
  times.listen(true);
  const auto inner = make_single_collective(), comm = make_timed_collective(device, *inner, times);
  CHECK_NOTHROW(CollectiveCases(device, *comm).all());
  CHECK(!times.take().empty());
}

TEST_CASE("kinds, names and bytes of collectives are noted in the order of their waits") {
  Noted n;
  n.times.listen(true);
  Pending first = n.comm->start_all_reduce(n.t, ReduceOp::sum), second = n.comm->start_all_reduce_bf16(n.t);
  n.comm->wait(std::move(second), "second");
  n.comm->wait(std::move(first), "first");
  n.comm->all_gather(n.t, n.all, "third");
  n.comm->barrier("fourth");
  const std::vector<CommSpan> spans = n.times.take();
  REQUIRE(spans.size() == 4);
  CHECK(spans[0].what == "second");
  CHECK(spans[0].bytes == 200);
  CHECK(spans[1].what == "first");
  CHECK(std::string(spans[1].kind) == "all-reduce");
  CHECK(spans[1].bytes == 400);
  CHECK(std::string(spans[2].kind) == "all-gather");
  CHECK(spans[2].bytes == 800);
  CHECK(spans[3].bytes == 0);
  CHECK(n.times.take().empty());
  CHECK(n.comm->bytes_sent() == 7);
}

TEST_CASE("what work hides is no wait: from its start to its end a collective is under way all the same") {
  Noted n;
  n.times.listen(true);
  Pending hidden = n.comm->start_all_reduce(n.t, ReduceOp::sum);
  std::this_thread::sleep_for(2 * kPause);  // work
  n.comm->wait(std::move(hidden), "hidden");
  n.comm->all_reduce(n.t, ReduceOp::sum, "seen");
  const std::vector<CommSpan> spans = n.times.take();
  REQUIRE(spans.size() == 2);
  // Complete by itself in the middle of the work, which its waiter came later than.
  CHECK(spans[0].end() - spans[0].begin() >= kSeconds);
  CHECK(spans[0].end() < spans[0].wait_begin->seconds());
  CHECK(spans[1].end() >= spans[1].begin() + kSeconds);
  for (const CommSpan& s : spans) {
    CHECK(s.exposed() ==
          s.start_end->seconds() - s.start_begin->seconds() + s.wait_end->seconds() - s.wait_begin->seconds());
  }
}

TEST_CASE("a group's collectives are noted with the others") {
  Noted n;
  n.times.listen(true);
  const auto host = make_single_collective();
  const auto group = n.comm->split(1, *host);
  group->barrier("of the group");
  n.comm->barrier("of all");
  const std::vector<CommSpan> spans = n.times.take();
  REQUIRE(spans.size() == 2);
  CHECK(spans[0].what == "of the group");
}

TEST_CASE("nothing is noted while nobody listens, nor kept") {
  Noted n;
  n.comm->barrier();
  n.times.listen(true);
  n.comm->barrier("counts");
  n.times.listen(false);
  n.comm->barrier();
  CHECK(n.times.take().size() == 1);
}
