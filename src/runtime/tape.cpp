#include "runtime/tape.h"

#include <exception>
#include <utility>

namespace plsc {
namespace {

/// A collective of a program, from its start to its wait; made anew each time the program is played.
using Slot = std::shared_ptr<Pending>;

/// What stands for it while the program is recorded.
class Recorded final : public Request {
 public:
  explicit Recorded(Slot slot) : slot_(std::move(slot)) {}
  /// Nothing is under way yet.
  bool poll() override { return false; }
  const Slot& slot() const { return slot_; }

 private:
  Slot slot_;
};

/// After an error, which is what is told: what the device has recorded is of no use, nor is what it says of it or,
/// where it records no more, of being asked.
void stop_recording(Device& device) {
  try {
    device.end_recording();
  } catch (const std::exception&) {
  }
}

}  // namespace

struct Tape::Session {
  Program program;
  std::shared_ptr<RecordingMemory> memory;
};

Tape::Tape(Device& device, Collective& inner) : device_(device), inner_(inner) {}
Tape::~Tape() = default;

Program Tape::record(const std::shared_ptr<RecordingMemory>& memory, const std::function<void()>& work) {
  PLSC_CHECK(!session_, "a recording inside a recording");
  session_ = std::make_unique<Session>();
  session_->memory = memory;
  try {
    begin_part();
    work();
    end_part();
  } catch (...) {
    session_.reset();
    stop_recording(device_);
    throw;
  }
  Program program = std::move(session_->program);
  session_.reset();
  return program;
}

void Tape::begin_part() { device_.begin_recording(session_->memory); }

void Tape::end_part() {
  const std::shared_ptr<Recording> part = device_.end_recording();
  if (part == nullptr) return;
  session_->program.parts_.push_back([part] { part->replay(); });
  ++session_->program.recordings_;
}

void Tape::cut(std::function<void()> call) {
  end_part();
  session_->program.parts_.push_back(std::move(call));
  begin_part();
}

Pending Tape::start_later(std::function<Pending()> call) {
  auto slot = std::make_shared<Pending>();
  cut([slot, call = std::move(call)] { *slot = call(); });
  return std::make_unique<Recorded>(slot);
}

void Tape::wait(Pending pending, const std::string& what) { wait_of(inner_, std::move(pending), what); }

void Tape::wait_of(Collective& inner, Pending pending, const std::string& what) {
  const auto* recorded = dynamic_cast<const Recorded*>(pending.get());
  PLSC_CHECK((recorded != nullptr) == (session_ != nullptr), "{}: a collective crosses a recording's border", what);
  if (recorded == nullptr) return inner.wait(std::move(pending), what);
  cut([&inner, slot = recorded->slot(), what] { inner.wait(std::move(*slot), what); });
}

/// The same for a group of the ranks: it records where its tape does.
class Tape::Group final : public Collective {
 public:
  Group(Tape& tape, std::unique_ptr<Collective> inner) : tape_(tape), inner_(std::move(inner)) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  Pending start_all_reduce(Tensor& t, ReduceOp op) override {
    return tape_.start(&Collective::start_all_reduce, *inner_, t, op);
  }
  Pending start_all_reduce_bf16(Tensor& t) override {
    return tape_.start(&Collective::start_all_reduce_bf16, *inner_, t);
  }
  Pending start_all_gather(const Tensor& from, Tensor& to) override {
    return tape_.start(&Collective::start_all_gather, *inner_, from, to);
  }
  Pending start_reduce_scatter(const Tensor& from, Tensor& to) override {
    return tape_.start(&Collective::start_reduce_scatter, *inner_, from, to);
  }
  Pending start_broadcast(Tensor& t, int root) override {
    return tape_.start(&Collective::start_broadcast, *inner_, t, root);
  }
  Pending start_barrier() override { return tape_.start(&Collective::start_barrier, *inner_); }
  std::unique_ptr<Collective> split(int ranks, Collective& host) override {
    return std::make_unique<Group>(tape_, inner_->split(ranks, host));
  }
  void wait(Pending pending, const std::string& what) override { tape_.wait_of(*inner_, std::move(pending), what); }
  int64_t bytes_sent() const override { return inner_->bytes_sent(); }

 private:
  Tape& tape_;
  std::unique_ptr<Collective> inner_;
};

std::unique_ptr<Collective> Tape::split(int ranks, Collective& host) {
  PLSC_CHECK(!session_, "a group of ranks made inside a recording");
  return std::make_unique<Group>(*this, inner_.split(ranks, host));
}

}  // namespace plsc
