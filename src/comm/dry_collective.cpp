#include "comm/dry_collective.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "comm/reduce.h"

namespace plsc {
namespace {

class Done final : public Request {
 public:
  bool poll() override { return true; }
};

/// Holds what a reduction receives into.
class Buffered final : public Request {
 public:
  Buffered(const std::function<void(double)>& note, double bytes) : note_(note), bytes_(bytes) { note_(bytes_); }
  ~Buffered() override { note_(-bytes_); }
  bool poll() override { return true; }

 private:
  const std::function<void(double)>& note_;
  double bytes_;
};

class DryCollective final : public Collective {
 public:
  explicit DryCollective(DryWorld world) : world_(std::move(world)) {}
  int rank() const override { return 0; }
  int size() const override { return world_.ranks; }

  Pending start_all_reduce(Tensor& t, ReduceOp op) override {
    PLSC_CHECK(can_reduce(t.dtype()), "an all-reduce of {}: convert to f32 first", dtype_name(t.dtype()));
    if (!world_.of_device) reduce_alike(op, t, t);
    return reduction(t.bytes(), 2 * share(t.bytes()));
  }
  Pending start_all_gather(const Tensor& from, Tensor& to) override {
    check_parts(from, to);
    if (!world_.of_device) {
      for (int r = 0; r < world_.ranks; ++r)
        std::memcpy(static_cast<std::byte*>(to.raw()) + static_cast<size_t>(r) * from.bytes(), from.raw(),
                    from.bytes());
    }
    return send(share(to.bytes()));
  }
  Pending start_reduce_scatter(const Tensor& from, Tensor& to) override {
    check_parts(to, from);
    PLSC_CHECK(can_reduce(from.dtype()), "a reduce-scatter of {}: convert to f32 first", dtype_name(from.dtype()));
    if (!world_.of_device) reduce_alike(ReduceOp::sum, from, to);
    return reduction(from.bytes(), share(from.bytes()));
  }
  Pending start_broadcast(Tensor& t, int) override { return send(share(t.bytes())); }
  Pending start_barrier() override { return std::make_unique<Done>(); }
  std::unique_ptr<Collective> split(int ranks, Collective&) override {
    PLSC_CHECK(ranks > 0 && size() % ranks == 0, "{} ranks in groups of {}", size(), ranks);
    DryWorld group = world_;
    group.ranks = ranks;
    return make_dry_collective(group);
  }
  void wait(Pending pending, const std::string&) override { PLSC_CHECK(pending && pending->poll()); }

 private:
  /// What one of the ranks sends of `bytes` that all of them have to see.
  double share(size_t bytes) const { return static_cast<double>(bytes) * (world_.ranks - 1) / world_.ranks; }
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
  Pending reduction(size_t bytes, double sent) const {
    send(sent);
    if (!world_.buffers) return std::make_unique<Done>();
    return std::make_unique<Buffered>(world_.buffers, share(std::min<size_t>(bytes, kReductionSlab)));
  }
  Pending send(double bytes) const {
    if (world_.sends && world_.ranks > 1) world_.sends(bytes);
    return std::make_unique<Done>();
  }

  DryWorld world_;
};

}  // namespace

std::unique_ptr<Collective> make_dry_collective(const DryWorld& world) {
  return std::make_unique<DryCollective>(world);
}

}  // namespace plsc
