// The memory of the CPU's ops, by those ops themselves: oneDNN's primitives are made, and say what workspace they want,
// but none is run.
#include <omp.h>

#include "backend/cpu/dnnl_exec.h"
#include "backend/cpu/head_workspace.h"
#include "backend/cpu/neighbour_search.h"
#include "backend/cpu/ops_cpu.h"
#include "backend/dry/op_memory.h"

namespace plsc {
namespace {

class CpuSearchMemory final : public SearchMemory {
 public:
  CpuSearchMemory(Device& device, const NeighbourSearchSpec& spec) : scratch_(device, spec) {}
  void score(const NeighbourBlock& block) override { scratch_.take_keys(block); }

 private:
  NeighbourScratch scratch_;
};

class CpuOpMemory final : public OpMemory {
 public:
  explicit CpuOpMemory(DryDevice& device)
      : device_(device), runtime_(device, device.threads(), false), work_(device, device.threads()) {
    omp_set_num_threads(device.threads());
  }

  std::unique_ptr<ConvOp> conv(const ConvSpec& spec) override { return make_cpu_conv(runtime_, spec); }
  std::unique_ptr<LinearOp> linear(const LinearSpec& spec) override { return make_cpu_linear(runtime_, spec); }
  std::unique_ptr<PoolOp> pool(const PoolSpec& spec) override { return make_cpu_pool(runtime_, spec); }

  double head_forward(RowSource& rows, const HeadPass& pass) override {
    work_.prepare(rows, pass);
    return 0;
  }
  double head_backward(RowSource& rows, const HeadPass& pass, Dtype dx) override {
    work_.prepare(rows, pass);
    for (int p = 0; p < work_.threads(); ++p) work_.scratch(p).take_gradient(dx);
    return 0;
  }

  std::unique_ptr<SearchMemory> search(const NeighbourSearchSpec& spec) override {
    return std::make_unique<CpuSearchMemory>(device_, spec);
  }

  void upload(const Tensor&) override {}

 private:
  DryDevice& device_;
  DnnlRuntime runtime_;
  HeadWorkspace work_;
};

}  // namespace

std::unique_ptr<OpMemory> make_cpu_op_memory(DryDevice& device) { return std::make_unique<CpuOpMemory>(device); }

}  // namespace plsc
