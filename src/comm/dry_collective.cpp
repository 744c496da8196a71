#include "comm/dry_collective.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "comm/reduce.h"

namespace plsc {
namespace {

/// Holds what a reduction receives into.
class Buffer {
 public:
  Buffer(const std::function<void(double)>& note, double bytes) : note_(note), bytes_(bytes) { note_(bytes_); }
  ~Buffer() { note_(-bytes_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

 private:
  const std::function<void(double)>& note_;
  double bytes_;
};

class Done final : public Request {
 public:
  bool poll() override { return true; }
  std::optional<int64_t> started;  // its number, where somebody wants to know of its wait
  std::unique_ptr<Buffer> buffer;
};

class DryCollective final : public Collective {
 public:
  explicit DryCollective(DryWorld world) : world_(std::move(world)) {}
  int rank() const override { return 0; }
  int size() const override { return world_.ranks; }

  Pending start_all_reduce(Tensor& t, ReduceOp op) override {
    PLSC_CHECK(can_reduce(t.dtype()), "an all-reduce of {}: convert to f32 first", dtype_name(t.dtype()));
    if (!world_.of_device) reduce_alike(op, t, t);
    DryTraffic whole = traffic(t.bytes(), 2);
    whole.small = world_.mpi && static_cast<int64_t>(t.bytes()) <= kSmallAllReduce;
    return reduction(whole);
  }
  Pending start_all_reduce_bf16(Tensor& t) override {
    PLSC_CHECK(t.dtype() == Dtype::f32 && world_.of_device, "an all-reduce in bf16 of {}", dtype_name(t.dtype()));
    // Half of it to send, half of it received.
    if (world_.rooms && world_.ranks > 1) world_.rooms(static_cast<double>(t.bytes()));
    return buffered(traffic(t.bytes() / 2, 2), static_cast<double>(std::min<size_t>(t.bytes(), kReductionSlab)));
  }
  Pending start_all_gather(const Tensor& from, Tensor& to) override {
    check_parts(from, to);
    if (!world_.of_device) {
      for (int r = 0; r < world_.ranks; ++r)
        std::memcpy(static_cast<std::byte*>(to.raw()) + static_cast<size_t>(r) * from.bytes(), from.raw(),
                    from.bytes());
    }
    return start(traffic(to.bytes()));
  }
  Pending start_reduce_scatter(const Tensor& from, Tensor& to) override {
    check_parts(to, from);
    PLSC_CHECK(can_reduce(from.dtype()), "a reduce-scatter of {}: convert to f32 first", dtype_name(from.dtype()));
    if (!world_.of_device) reduce_alike(ReduceOp::sum, from, to);
    return reduction(traffic(from.bytes()));
  }
  Pending start_broadcast(Tensor& t, int) override { return start(traffic(t.bytes())); }
  Pending start_barrier() override { return std::make_unique<Done>(); }
  std::unique_ptr<Collective> split(int ranks, Collective&) override {
    PLSC_CHECK(ranks > 0 && size() % ranks == 0, "{} ranks in groups of {}", size(), ranks);
    DryWorld group = world_;
    group.ranks = ranks;
    return make_dry_collective(group);
  }
  void wait(Pending pending, const std::string&) override {
    const auto* done = dynamic_cast<const Done*>(pending.get());
    PLSC_CHECK(done != nullptr);
    if (done->started && world_.waits) world_.waits(*done->started);
  }
  int64_t bytes_sent() const override { return static_cast<int64_t>(sent_); }

 private:
  /// to = as many elements of `from`, over ranks that all have them. They may be the same tensor.
  void reduce_alike(ReduceOp op, const Tensor& from, Tensor& to) const {
    const std::vector<const void*> parts(static_cast<size_t>(world_.ranks), from.raw());
    reduce_parts(from.dtype(), op, parts, to.raw(), to.elements());
  }
  void check_parts(const Tensor& part, const Tensor& whole) const {
    PLSC_CHECK(part.dtype() == whole.dtype() && part.elements() * size() == whole.elements(),
               "{} {} as one of {} parts of {} {}", dtype_name(part.dtype()), part.shape().text(), size(),
               dtype_name(whole.dtype()), whole.shape().text());
  }
  DryTraffic traffic(size_t bytes, int passes = 1) const {
    return {static_cast<double>(bytes), passes, world_.ranks, false};
  }
  Pending reduction(const DryTraffic& whole) {
    const auto slab = std::min(static_cast<size_t>(whole.bytes), static_cast<size_t>(kReductionSlab));
    return buffered(whole, whole.small ? whole.sent() : traffic(slab).sent());
  }
  /// One that takes so many bytes of host memory.
  Pending buffered(const DryTraffic& whole, double bytes) {
    std::unique_ptr<Done> done = start(whole);
    if (world_.buffers) done->buffer = std::make_unique<Buffer>(world_.buffers, bytes);
    return done;
  }
  std::unique_ptr<Done> start(const DryTraffic& whole) {
    auto done = std::make_unique<Done>();
    if (world_.ranks == 1) return done;
    sent_ += whole.sent();
    if (world_.starts) done->started = world_.starts(whole);
    return done;
  }

  DryWorld world_;
  double sent_ = 0;
};

}  // namespace

std::unique_ptr<Collective> make_dry_collective(const DryWorld& world) {
  return std::make_unique<DryCollective>(world);
}

}  // namespace plsc
