#include "runtime/timed_collective.h"

#include <utility>

namespace plsc {
namespace {

/// A collective under way and what is known of it so far.
class TimedRequest final : public Request {
 public:
  TimedRequest(Pending inner, CommSpan span) : inner_(std::move(inner)), span_(std::move(span)) {}
  bool poll() override { return inner_->poll(); }
  std::optional<double> ended() const override { return inner_->ended(); }
  Pending take_inner() { return std::move(inner_); }
  CommSpan take_span() { return std::move(span_); }

 private:
  Pending inner_;
  CommSpan span_;
};

class TimedCollective final : public Collective {
 public:
  TimedCollective(Device& device, Collective& inner, CommTimes& times)
      : device_(device), inner_(inner), times_(times) {}
  TimedCollective(Device& device, std::unique_ptr<Collective> inner, CommTimes& times)
      : device_(device), owned_(std::move(inner)), inner_(*owned_), times_(times) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }

  Pending start_all_reduce(Tensor& t, ReduceOp op) override {
    return start("all-reduce", t.bytes(), [&] { return inner_.start_all_reduce(t, op); });
  }
  Pending start_all_reduce_bf16(Tensor& t) override {
    return start("all-reduce in bf16", t.bytes() / 2, [&] { return inner_.start_all_reduce_bf16(t); });
  }
  Pending start_all_gather(const Tensor& from, Tensor& to) override {
    return start("all-gather", to.bytes(), [&] { return inner_.start_all_gather(from, to); });
  }
  Pending start_reduce_scatter(const Tensor& from, Tensor& to) override {
    return start("reduce-scatter", from.bytes(), [&] { return inner_.start_reduce_scatter(from, to); });
  }
  Pending start_broadcast(Tensor& t, int root) override {
    return start("broadcast", t.bytes(), [&] { return inner_.start_broadcast(t, root); });
  }
  Pending start_barrier() override {
    return start("barrier", 0, [&] { return inner_.start_barrier(); });
  }
  void wait(Pending pending, const std::string& what) override {
    auto* timed = dynamic_cast<TimedRequest*>(pending.get());
    if (timed == nullptr) return inner_.wait(std::move(pending), what);  // nobody listened when it was started
    CommSpan span = timed->take_span();
    span.what = what;
    span.wait_begin = device_.mark();
    Pending inner = timed->take_inner();
    span.ended = inner->ended();
    inner_.wait(std::move(inner), what);
    span.wait_end = device_.mark();
    times_.note(std::move(span));
  }
  int64_t bytes_sent() const override { return inner_.bytes_sent(); }
  std::unique_ptr<Collective> split(int ranks, Collective& host) override {
    return std::make_unique<TimedCollective>(device_, inner_.split(ranks, host), times_);
  }

 private:
  template <class Start>
  Pending start(const char* kind, size_t bytes, const Start& call) {
    if (!times_.listens()) return call();
    CommSpan span;
    span.kind = kind;
    span.bytes = static_cast<int64_t>(bytes);
    span.start_begin = device_.mark();
    Pending inner = call();
    span.start_end = device_.mark();
    return std::make_unique<TimedRequest>(std::move(inner), std::move(span));
  }

  Device& device_;
  std::unique_ptr<Collective> owned_;  // of a group
  Collective& inner_;
  CommTimes& times_;
};

}  // namespace

double CommSpan::exposed() const {
  return start_end->seconds() - start_begin->seconds() + wait_end->seconds() - wait_begin->seconds();
}

std::unique_ptr<Collective> make_timed_collective(Device& device, Collective& inner, CommTimes& times) {
  return std::make_unique<TimedCollective>(device, inner, times);
}

}  // namespace plsc
