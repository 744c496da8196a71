// CUDA as the device of the head's cases: the parts of a backend that the head needs. Tiles are small, so that small
// problems have several, and the stream ahead runs into the pass wherever an order is missing.
#include "head_context_cuda.h"

#include "backend/cuda/cuda_device.h"
#include "backend/cuda/head_ops_cuda.h"
#include "backend/cuda/neighbour_ops_cuda.h"
#include "backend/cuda/optim_ops_cuda.h"
#include "backend/cuda/vendor_handles.h"

namespace plsc::test {
namespace {

class Done final : public Request {
 public:
  bool poll() override { return true; }
};

/// The world of one rank on device memory: gathers and scatters are copies, the rest is nothing.
class AloneOnDevice final : public Collective {
 public:
  explicit AloneOnDevice(Device& device) : device_(device) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  Pending start_all_reduce(Tensor&, ReduceOp) override { return std::make_unique<Done>(); }
  Pending start_all_reduce_bf16(Tensor&) override { return std::make_unique<Done>(); }
  Pending start_all_gather(const Tensor& from, Tensor& to) override { return copy(from, to); }
  Pending start_reduce_scatter(const Tensor& from, Tensor& to) override { return copy(from, to); }
  Pending start_broadcast(Tensor&, int) override { return std::make_unique<Done>(); }
  Pending start_barrier() override { return std::make_unique<Done>(); }
  std::unique_ptr<Collective> split(int ranks, Collective&) override {
    PLSC_CHECK(ranks == 1);
    return std::make_unique<AloneOnDevice>(device_);
  }
  void wait(Pending pending, const std::string&) override { PLSC_CHECK(pending && pending->poll()); }
  int64_t bytes_sent() const override { return 0; }

 private:
  Pending copy(const Tensor& from, Tensor& to) {
    Tensor same = to.reshape(from.shape());
    device_.copy(from, same);
    return std::make_unique<Done>();
  }
  Device& device_;
};

class CudaHeadContext final : public CudaHeadOwner {
 public:
  explicit CudaHeadContext(int64_t tile_rows)
      : backend_(make_parts()),
        device_(static_cast<CudaDevice&>(*backend_.device)),
        runtime_(device_, device_.compute_stream(), {}),
        comm_(device_),
        host_(make_single_collective()),
        log_(0, LogLevel::error),
        context_{backend_, comm_, *host_, log_, Dtype::f32, 1} {
    auto* state = static_cast<math::StepState*>(backend_.step_state.raw());
    backend_.head = make_cuda_head_ops(device_, runtime_, state, {.tile_rows = tile_rows});
    backend_.neighbours = make_cuda_neighbour_ops(runtime_, {.query_rows = 64, .tile_rows = tile_rows});
    backend_.optim = make_cuda_optim_ops(device_, state);
  }
  ~CudaHeadContext() override {
    backend_.head.reset();
    backend_.neighbours.reset();
    backend_.optim.reset();
  }
  Context& context() override { return context_; }
  const CudaRuntime& runtime() override { return runtime_; }

 private:
  static Backend make_parts() {
    Backend backend;
    backend.device = std::make_unique<CudaDevice>(CudaOptions{});
    backend.step_state = make_step_state(*backend.device);
    return backend;
  }
  Backend backend_;
  CudaDevice& device_;
  CudaRuntime runtime_;
  AloneOnDevice comm_;
  std::unique_ptr<Collective> host_;
  Log log_;
  Context context_;
};

}  // namespace

std::unique_ptr<CudaHeadOwner> make_cuda_head_context(int64_t tile_rows) {
  return std::make_unique<CudaHeadContext>(tile_rows);
}
std::unique_ptr<HeadContextOwner> make_head_context(int) { return make_cuda_head_context(128); }

}  // namespace plsc::test
