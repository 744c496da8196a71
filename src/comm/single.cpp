// The world of one rank: gathers and scatters are copies, the rest is nothing. Works on host memory.
#include <cstring>

#include "comm/collective.h"
#include "comm/reduce.h"

namespace plsc {
namespace {

class Done final : public Request {
 public:
  bool poll() override { return true; }
};

class SingleCollective final : public Collective {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  Pending start_all_reduce(Tensor& t, ReduceOp) override {
    // As with several ranks: what cannot run there must not seem to work here.
    PLSC_CHECK(can_reduce(t.dtype()), "an all-reduce of {}: convert to f32 first", dtype_name(t.dtype()));
    return std::make_unique<Done>();
  }
  Pending start_all_reduce_bf16(Tensor& t) override {
    PLSC_CHECK(t.dtype() == Dtype::f32, "an all-reduce in bf16 of {}", dtype_name(t.dtype()));
    return std::make_unique<Done>();
  }
  Pending start_all_gather(const Tensor& from, Tensor& to) override { return copy(from, to); }
  Pending start_reduce_scatter(const Tensor& from, Tensor& to) override {
    PLSC_CHECK(can_reduce(from.dtype()), "a reduce-scatter of {}: convert to f32 first", dtype_name(from.dtype()));
    return copy(from, to);
  }
  Pending start_broadcast(Tensor&, int root) override {
    PLSC_CHECK(root == 0, "root {} of one rank", root);
    return std::make_unique<Done>();
  }
  Pending start_barrier() override { return std::make_unique<Done>(); }
  std::unique_ptr<Collective> split(int ranks, Collective&) override {
    PLSC_CHECK(ranks == 1, "one rank in groups of {}", ranks);
    return make_single_collective();
  }
  void wait(Pending pending, const std::string&) override { PLSC_CHECK(pending && pending->poll()); }
  int64_t bytes_sent() const override { return 0; }

 private:
  static Pending copy(const Tensor& from, Tensor& to) {
    PLSC_CHECK(from.dtype() == to.dtype() && from.elements() == to.elements(), "{} {} to {} {}",
               dtype_name(from.dtype()), from.shape().text(), dtype_name(to.dtype()), to.shape().text());
    PLSC_CHECK(from.on_host() && to.on_host(), "device memory in a host collective");
    if (from.bytes() > 0 && from.raw() != to.raw()) std::memmove(to.raw(), from.raw(), from.bytes());
    return std::make_unique<Done>();
  }
};

}  // namespace

std::unique_ptr<Collective> make_single_collective() { return std::make_unique<SingleCollective>(); }

}  // namespace plsc
