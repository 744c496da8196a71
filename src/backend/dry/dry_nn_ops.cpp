// Network ops: their memory is taken, their arithmetic counted.
#include "backend/dry/counting.h"
#include "backend/dry/dry_ops.h"

namespace plsc {
namespace {

using counting::bytes_of, counting::number;

class DryConv final : public ConvOp {
 public:
  DryConv(Device& device, const ConvSpec& spec, std::unique_ptr<ConvOp> memory, DryTally& tally)
      : device_(device), type_(spec.dtype), memory_(std::move(memory)), tally_(tally) {
    flop_ = 2 * number(spec.batch * spec.out_height() * spec.out_width()) * number(spec.out_channels) *
            number(spec.in_channels * spec.kernel * spec.kernel);
  }
  void forward(const Tensor& x, const Tensor& weight, Tensor& y) override {
    const MemoryScope use(device_, MemoryUse::workspace);
    memory_->forward(x, weight, y);
    count(x, weight, y);
  }
  void backward_data(const Tensor& dy, const Tensor& weight, Tensor& dx) override {
    const MemoryScope use(device_, MemoryUse::workspace);
    memory_->backward_data(dy, weight, dx);
    count(dy, weight, dx);
  }
  void backward_weight(const Tensor& x, const Tensor& dy, Tensor& dweight, bool accumulate) override {
    const MemoryScope use(device_, MemoryUse::workspace);
    memory_->backward_weight(x, dy, dweight, accumulate);
    count(x, dweight, dy);
  }

 private:
  void count(const Tensor& a, const Tensor& b, const Tensor& c) {
    tally_.add({flop_, bytes_of(a) + bytes_of(b) + bytes_of(c), type_});
  }
  Device& device_;
  double flop_ = 0;
  Dtype type_;
  std::unique_ptr<ConvOp> memory_;
  DryTally& tally_;
};

class DryLinear final : public LinearOp {
 public:
  DryLinear(Device& device, const LinearSpec& spec, std::unique_ptr<LinearOp> memory, DryTally& tally)
      : device_(device), memory_(std::move(memory)), tally_(tally) {
    flop_ = 2 * number(spec.batch) * number(spec.height * spec.width * spec.channels) * number(spec.out_features);
  }
  void forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y) override {
    const MemoryScope use(device_, MemoryUse::workspace);
    memory_->forward(x, weight, bias, y);
    count(x, weight, y);
  }
  void backward_data(const Tensor& dy, const Tensor& weight, Tensor& dx) override {
    const MemoryScope use(device_, MemoryUse::workspace);
    memory_->backward_data(dy, weight, dx);
    count(dy, weight, dx);
  }
  void backward_weight(const Tensor& x, const Tensor& dy, Tensor& dweight, Tensor& dbias, bool accumulate) override {
    const MemoryScope use(device_, MemoryUse::workspace);
    memory_->backward_weight(x, dy, dweight, dbias, accumulate);
    count(x, dweight, dy);
  }

 private:
  void count(const Tensor& a, const Tensor& b, const Tensor& c) {
    tally_.add({flop_, bytes_of(a) + bytes_of(b) + bytes_of(c), Dtype::f32});
  }
  Device& device_;
  double flop_ = 0;
  std::unique_ptr<LinearOp> memory_;
  DryTally& tally_;
};

class DryPool final : public PoolOp {
 public:
  DryPool(std::unique_ptr<PoolOp> memory, DryTally& tally) : memory_(std::move(memory)), tally_(tally) {}
  void forward(const Tensor& x, Tensor& y) override {
    memory_->forward(x, y);
    tally_.add({0, bytes_of(x) + bytes_of(y)});
  }
  void backward(const Tensor& dy, Tensor& dx) override {
    memory_->backward(dy, dx);
    tally_.add({0, bytes_of(dy) + bytes_of(dx)});
  }

 private:
  std::unique_ptr<PoolOp> memory_;
  DryTally& tally_;
};

class DryNnOps final : public NnOps {
 public:
  DryNnOps(Device& device, OpMemory& memory, DryTally& tally) : device_(device), memory_(memory), tally_(tally) {}

  std::unique_ptr<ConvOp> make_conv(const ConvSpec& spec) override {
    return std::make_unique<DryConv>(device_, spec, memory_.conv(spec), tally_);
  }
  std::unique_ptr<LinearOp> make_linear(const LinearSpec& spec) override {
    return std::make_unique<DryLinear>(device_, spec, memory_.linear(spec), tally_);
  }
  std::unique_ptr<PoolOp> make_pool(const PoolSpec& spec) override {
    return std::make_unique<DryPool>(memory_.pool(spec), tally_);
  }

  void batch_norm_stats(const Tensor& x, Tensor&) override { moves({&x}); }
  void batch_norm_merge(const Tensor& gathered, float, Tensor&) override { moves({&gathered}); }
  void batch_norm_constants(const Tensor&, const Tensor&, float, Tensor& mean_rstd) override { moves({&mean_rstd}); }
  void batch_norm_fold(const Tensor& sums, float, Tensor&, Tensor&) override { moves({&sums}); }
  void batch_norm_apply(const BatchNormApply& args) override { moves({&args.x, &args.residual, &args.y}); }
  void batch_norm_backward_sums(const BatchNormBackward& args) override {
    moves({&args.forward.x, &args.forward.y, &args.dy});
  }
  void batch_norm_backward_apply(const BatchNormBackward& args) override {
    moves({&args.forward.x, &args.forward.y, &args.dy, &args.add, &args.dx, &args.dresidual});
  }
  void dropout(const Dropout& args) override { moves({&args.x, &args.y}); }
  void cast(const Tensor& from, Tensor& to) override { moves({&from, &to}); }
  void add(const Tensor& x, Tensor& y) override { moves({&x, &y, &y}); }

 private:
  void moves(std::initializer_list<const Tensor*> tensors) {
    double bytes = 0;
    for (const Tensor* t : tensors) {
      if (t->defined()) bytes += bytes_of(*t);
    }
    tally_.add({0, bytes});
  }

  Device& device_;
  OpMemory& memory_;
  DryTally& tally_;
};

}  // namespace

std::unique_ptr<NnOps> make_dry_nn_ops(DryDevice& device, OpMemory& memory, DryTally& tally) {
  return std::make_unique<DryNnOps>(device, memory, tally);
}

}  // namespace plsc
