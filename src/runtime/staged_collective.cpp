#include "runtime/staged_collective.h"

#include "comm/reduce.h"

namespace plsc {
namespace {

/// As with every collective, whatever carries it: a sum over many ranks is not for 16 bits.
void check_sums(const Tensor& t) {
  PLSC_CHECK(can_reduce(t.dtype()), "a reduction of {}: convert to f32 first", dtype_name(t.dtype()));
}

/// A collective on copies in host memory, whose result goes back to the device as soon as a poll finds it complete.
class StagedRequest final : public Request {
 public:
  StagedRequest(Device& device, Tensor sent, Tensor received, Tensor target)
      : device_(device), sent_(std::move(sent)), received_(std::move(received)), target_(std::move(target)) {}

  Tensor& sent() { return sent_; }
  Tensor& received() { return received_; }
  void run(Pending inner) { inner_ = std::move(inner); }
  /// The collective on the host; afterwards `finish` is due.
  Pending take_inner() { return std::move(inner_); }
  void finish() {
    if (target_.bytes() > 0) device_.copy(received_, target_);
    target_ = {};
    done_ = true;
  }
  bool done() const { return done_; }
  bool poll() override {
    if (!done_ && inner_->poll()) finish();
    return done_;
  }
  std::optional<double> ended() const override { return inner_ ? inner_->ended() : std::nullopt; }

 private:
  Device& device_;
  Tensor sent_, received_;  // on the host; where a collective is in place, two names of one
  Tensor target_;           // on the device; undefined where nothing comes back
  Pending inner_;
  bool done_ = false;
};

class StagedCollective final : public Collective {
 public:
  StagedCollective(Device& device, Collective& host_memory) : device_(device), host_(host_memory) {}
  StagedCollective(Device& device, std::unique_ptr<Collective> host_memory)
      : device_(device), owned_(std::move(host_memory)), host_(*owned_) {}
  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  void check_parts(const Tensor& part, const Tensor& whole) const {
    PLSC_CHECK(part.dtype() == whole.dtype() && part.elements() * size() == whole.elements(),
               "{} {} as one of {} parts of {} {}", dtype_name(part.dtype()), part.shape().text(), size(),
               dtype_name(whole.dtype()), whole.shape().text());
  }

  Pending start_all_reduce(Tensor& t, ReduceOp op) override {
    if (t.on_host()) return host_.start_all_reduce(t, op);
    check_sums(t);
    const Tensor copy = to_host(t);
    return start(copy, copy, t, [&](StagedRequest& r) { return host_.start_all_reduce(r.received(), op); });
  }
  Pending start_all_reduce_bf16(Tensor& t) override {
    if (t.on_host()) return host_.start_all_reduce_bf16(t);
    const Tensor copy = to_host(t);
    return start(copy, copy, t, [&](StagedRequest& r) { return host_.start_all_reduce_bf16(r.received()); });
  }
  Pending start_all_gather(const Tensor& from, Tensor& to) override {
    if (to.on_host()) return host_.start_all_gather(from, to);
    check_parts(from, to);
    return start(to_host(from), like(to), to,
                 [&](StagedRequest& r) { return host_.start_all_gather(r.sent(), r.received()); });
  }
  Pending start_reduce_scatter(const Tensor& from, Tensor& to) override {
    if (to.on_host()) return host_.start_reduce_scatter(from, to);
    check_sums(from);
    check_parts(to, from);
    return start(to_host(from), like(to), to,
                 [&](StagedRequest& r) { return host_.start_reduce_scatter(r.sent(), r.received()); });
  }
  Pending start_broadcast(Tensor& t, int root) override {
    if (t.on_host()) return host_.start_broadcast(t, root);
    PLSC_CHECK(root >= 0 && root < size(), "root {} of {} ranks", root, size());
    const Tensor copy = root == rank() ? to_host(t) : like(t);
    return start(copy, copy, t, [&](StagedRequest& r) { return host_.start_broadcast(r.received(), root); });
  }
  Pending start_barrier() override {
    device_.synchronize();
    return host_.start_barrier();
  }

  std::unique_ptr<Collective> split(int ranks, Collective& host) override {
    return std::make_unique<StagedCollective>(device_, host_.split(ranks, host));
  }

  void wait(Pending pending, const std::string& what) override {
    auto* staged = dynamic_cast<StagedRequest*>(pending.get());
    if (staged == nullptr) return host_.wait(std::move(pending), what);
    // Through the other collective's wait in any case: the ranks are compared by the waits that they have had.
    host_.wait(staged->take_inner(), what);
    if (!staged->done()) staged->finish();
  }
  int64_t bytes_sent() const override { return host_.bytes_sent(); }

 private:
  static Tensor like(const Tensor& t) { return Tensor(host_allocator(), t.shape(), t.dtype()); }
  Tensor to_host(const Tensor& t) {
    Tensor copy = like(t);
    if (t.bytes() > 0) device_.copy(t, copy);
    return copy;
  }
  template <class Start>
  Pending start(const Tensor& sent, const Tensor& received, const Tensor& target, const Start& inner) {
    auto request = std::make_unique<StagedRequest>(device_, sent, received, target);
    request->run(inner(*request));
    return request;
  }

  Device& device_;
  std::unique_ptr<Collective> owned_;  // of a group
  Collective& host_;
};

class Done final : public Request {
 public:
  bool poll() override { return true; }
};

class DeviceSingleCollective final : public Collective {
 public:
  explicit DeviceSingleCollective(Device& device) : device_(device) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  Pending start_all_reduce(Tensor& t, ReduceOp) override {
    check_sums(t);
    return std::make_unique<Done>();
  }
  Pending start_all_reduce_bf16(Tensor& t) override {
    PLSC_CHECK(t.dtype() == Dtype::f32, "an all-reduce in bf16 of {}", dtype_name(t.dtype()));
    return std::make_unique<Done>();
  }
  Pending start_all_gather(const Tensor& from, Tensor& to) override { return copy(from, to); }
  Pending start_reduce_scatter(const Tensor& from, Tensor& to) override {
    check_sums(from);
    return copy(from, to);
  }
  Pending start_broadcast(Tensor&, int root) override {
    PLSC_CHECK(root == 0, "root {} of one rank", root);
    return std::make_unique<Done>();
  }
  Pending start_barrier() override { return std::make_unique<Done>(); }
  std::unique_ptr<Collective> split(int ranks, Collective&) override {
    PLSC_CHECK(ranks == 1, "one rank in groups of {}", ranks);
    return make_device_single_collective(device_);
  }
  void wait(Pending pending, const std::string&) override { PLSC_CHECK(pending && pending->poll()); }
  int64_t bytes_sent() const override { return 0; }

 private:
  Pending copy(const Tensor& from, Tensor& to) {
    PLSC_CHECK(from.dtype() == to.dtype() && from.elements() == to.elements(), "{} {} to {} {}",
               dtype_name(from.dtype()), from.shape().text(), dtype_name(to.dtype()), to.shape().text());
    if (from.bytes() > 0 && from.raw() != to.raw()) device_.copy(from, to);
    return std::make_unique<Done>();
  }

  Device& device_;
};

}  // namespace

std::unique_ptr<Collective> make_staged_collective(Device& device, Collective& host_memory) {
  return std::make_unique<StagedCollective>(device, host_memory);
}

std::unique_ptr<Collective> make_device_single_collective(Device& device) {
  return std::make_unique<DeviceSingleCollective>(device);
}

}  // namespace plsc
