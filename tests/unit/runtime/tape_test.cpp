// Programs of a tape: what was recorded is done again part by part, with the collectives in their places.
#include "runtime/tape.h"

#include <atomic>
#include <string>

#include "runtime/staged_collective.h"
#include "support/catch.h"
#include "support/error_text.h"
#include "support/fake_device.h"
#include "support/thread_world.h"

using namespace plsc;
using namespace plsc::test;

namespace {

/// Passes everything on and notes what it was asked for, and when it was waited for.
class NotingCollective final : public Collective {
 public:
  explicit NotingCollective(std::string& notes, std::string of = "")
      : inner_(make_single_collective()), notes_(notes), of_(std::move(of)) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  Pending start_all_reduce(Tensor& t, ReduceOp op) override { return note("sum "), inner_->start_all_reduce(t, op); }
  Pending start_all_reduce_bf16(Tensor& t) override { return note("narrow "), inner_->start_all_reduce_bf16(t); }
  Pending start_all_gather(const Tensor& from, Tensor& to) override {
    return note("gather "), inner_->start_all_gather(from, to);
  }
  Pending start_reduce_scatter(const Tensor& from, Tensor& to) override {
    return note("scatter "), inner_->start_reduce_scatter(from, to);
  }
  Pending start_broadcast(Tensor& t, int root) override { return note("broadcast "), inner_->start_broadcast(t, root); }
  Pending start_barrier() override { return note("barrier "), inner_->start_barrier(); }
  std::unique_ptr<Collective> split(int, Collective&) override {
    return std::make_unique<NotingCollective>(notes_, of_ + "group's-");
  }
  void wait(Pending pending, const std::string& what) override {
    note(what + " ");
    inner_->wait(std::move(pending), what);
  }
  int64_t bytes_sent() const override { return 0; }

 private:
  void note(const std::string& text) { notes_ += of_ + text; }
  std::unique_ptr<Collective> inner_;
  std::string& notes_;
  std::string of_;
};

/// A near device, whose work is done at once, so that the notes tell the order of everything.
struct Recorder {
  FakeDevice device{false};
  std::string notes;
  NotingCollective inner{notes};
  Tape tape{device, inner};
  Tensor t = device.zeros({2});
  std::shared_ptr<RecordingMemory> memory = device.make_recording_memory();

  void work(const std::string& name) {
    device.give([this, name] { notes += name + " "; });
  }
  std::string played(const Program& program) {
    notes.clear();
    program.play();
    return notes;
  }
};

/// Two collectives under way at once, waited for out of order, with work before, between and behind them.
void overlapping(Recorder& r) {
  r.work("a");
  Pending sum = r.tape.start_all_reduce(r.t, ReduceOp::sum);
  r.work("b");
  r.work("c");
  Pending broadcast = r.tape.start_broadcast(r.t, 0);
  r.tape.wait(std::move(broadcast), "broadcast-done");
  r.work("d");
  r.tape.wait(std::move(sum), "sum-done");
  r.tape.barrier("barrier-done");
  r.work("e");
}
constexpr const char* kOverlapping = "a sum b c broadcast broadcast-done d sum-done barrier barrier-done e ";

}  // namespace

TEST_CASE("tape: nothing is done while it records; work and collectives are played in order, as often as wanted") {
  Recorder r;
  const Program program = r.tape.record(r.memory, [&] {
    overlapping(r);
    CHECK(r.notes.empty());
  });
  CHECK(r.notes.empty());
  CHECK_FALSE(program.empty());
  CHECK(program.recordings() == 4);  // "a", "b c", "d", "e": between two collectives that touch there is none
  CHECK(r.played(program) == kOverlapping);
  CHECK(r.played(program) == kOverlapping);
  // Without a recording it is the collective behind it.
  r.notes.clear();
  overlapping(r);
  CHECK(r.notes == kOverlapping);
}

TEST_CASE("tape: a group's collectives are parts of its programs, in their place among the others") {
  Recorder r;
  auto single = make_single_collective();
  const auto group = r.tape.split(1, *single);
  const auto work = [&] {
    r.work("a");
    Pending bucket = r.tape.start_all_reduce(r.t, ReduceOp::sum);
    group->all_reduce(r.t, ReduceOp::sum, "statistics");
    r.work("b");
    r.tape.wait(std::move(bucket), "bucket");
  };
  constexpr const char* kNotes = "a sum group's-sum group's-statistics b bucket ";
  const Program program = r.tape.record(r.memory, work);
  CHECK(r.notes.empty());
  CHECK(r.played(program) == kNotes);
  CHECK(r.played(program) == kNotes);
  r.notes.clear();
  work();
  CHECK(r.notes == kNotes);
}

TEST_CASE("tape: programs of one memory are played in turn, and copies of one go on alone") {
  Recorder r;
  Program first = r.tape.record(r.memory, [&] { r.work("first"); });
  const Program second = r.tape.record(r.memory, [&] { r.tape.barrier("second"); });
  const Program copy = first;
  first = {};
  CHECK(first.empty());
  CHECK(r.played(copy) == "first ");
  CHECK(r.played(second) == "barrier second ");
  CHECK(second.recordings() == 0);
  CHECK(r.tape.record(r.memory, [] {}).empty());
}

TEST_CASE("tape: every collective on a far device over ranks finds the values of its time") {
  for (const int ranks : {1, 2, 3}) {
    CHECK_NOTHROW(run_ranks(ranks, [](ThreadRank& self) {
      FakeDevice device(true);
      const auto inner = make_staged_collective(device, self.comm);
      Tape tape(device, *inner);
      const int64_t n = self.ranks;
      Tensor x = device.tensor({1}), sum = device.tensor({1}), all = device.tensor({n}), mine = device.tensor({1}),
             last = device.tensor({1});
      const Program program = tape.record(device.make_recording_memory(), [&] {
        device.copy(x, sum);
        tape.all_reduce(sum, ReduceOp::sum);
        tape.all_gather(x, all);
        tape.reduce_scatter(all, mine);
        device.copy(mine, last);
        tape.broadcast(last, self.ranks - 1);
      });
      const auto read = [&](const Tensor& t) {
        Tensor host(host_allocator(), t.shape(), Dtype::f32);
        device.copy(t, host);
        return host.values<float>();
      };
      for (int turn = 0; turn < 3; ++turn) {
        const auto value = [&](int64_t rank) { return static_cast<float>(10 * turn + 1 + rank); };
        device.copy(Tensor::from<float>({value(self.rank)}, {1}), x);
        program.play();
        float total = 0;
        std::vector<float> expected;
        for (int64_t r = 0; r < n; ++r) {
          total += value(r);
          expected.push_back(value(r));
        }
        PLSC_CHECK(read(sum)[0] == total && read(all) == expected);
        PLSC_CHECK(read(mine)[0] == static_cast<float>(n) * value(self.rank));
        PLSC_CHECK(read(last)[0] == static_cast<float>(n) * value(n - 1));
      }
    }));
  }
}

TEST_CASE("tape: a program keeps the tensors that it works on") {
  Recorder r;
  Program program;
  const Tensor result = r.device.zeros({2});
  {
    Tensor from = Tensor::from<float>({3, 4}, {2}), to = r.device.tensor({2});
    program = r.tape.record(r.memory, [&] {
      r.device.copy(from, to);
      r.tape.all_reduce(to, ReduceOp::sum);
      Tensor shared = result;
      r.device.copy(to, shared);
    });
  }
  program.play();
  CHECK(result.values<float>() == std::vector<float>{3, 4});
}

TEST_CASE("tape: a collective that crosses a recording's border is a bug, whichever way") {
  Recorder r;
  Pending outside = r.tape.start_barrier();
  CHECK_THROWS_AS(r.tape.record(r.memory, [&] { r.tape.wait(std::move(outside), "border"); }), LogicError);
  Pending inside;
  const Program program = r.tape.record(r.memory, [&] { inside = r.tape.start_barrier(); });
  CHECK_FALSE(inside->poll());
  CHECK_THROWS_AS(r.tape.wait(std::move(inside), "border"), LogicError);
  CHECK_THROWS_AS(r.tape.record(r.memory, [&] { r.tape.record(r.memory, [] {}); }), LogicError);
}

TEST_CASE("tape: what goes wrong while it records leaves it and the device as they were") {
  Recorder r;
  const Program before = r.tape.record(r.memory, [&] { r.work("before"); });
  CHECK(error_text([&] {
          r.tape.record(r.memory, [&] {
            r.work("lost");
            const Pending lost = r.tape.start_all_reduce(r.t, ReduceOp::sum);
            r.work("lost, too");
            fail("no luck");
          });
        }) == "no luck");
  // Neither records any more,
  r.work("now");
  r.tape.barrier("at once");
  CHECK(r.notes == "now barrier at once ");
  // both can again, and what was lost does not come back.
  const Program after = r.tape.record(r.memory, [&] { overlapping(r); });
  CHECK(r.played(after) == kOverlapping);
  CHECK(r.played(before) == "before ");
  // Where the device cannot end its recording, it has ended all the same.
  r.notes.clear();
  CHECK_THROWS_AS(r.tape.record(r.memory, [&] { r.device.end_recording(); }), LogicError);
  CHECK(r.played(r.tape.record(r.memory, [&] { r.work("again"); })) == "again ");
}
