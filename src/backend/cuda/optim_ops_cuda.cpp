// All parameters in one launch: their addresses stand in a table in device memory, which is sent when it changes, so in
// a training once.
#include "backend/cuda/optim_ops_cuda.h"

#include <algorithm>
#include <vector>

#include "backend/cuda/check.h"
#include "kernels/cuda/optim.h"

namespace plsc {
namespace {

using kernels::cuda::kOptimPiece;
using kernels::cuda::OptimPiece;

/// A table as the host knows it, and its copy in device memory.
class PieceTable {
 public:
  /// Makes it the table of `pieces`.
  void set(Device& device, std::vector<OptimPiece> pieces) {
    if (memory_.defined() && pieces == pieces_) return;
    pieces_ = std::move(pieces);
    const Shape shape{static_cast<int64_t>(pieces_.size() * sizeof(OptimPiece))};
    Tensor host(host_allocator(), shape, Dtype::u8);
    std::copy(pieces_.begin(), pieces_.end(), static_cast<OptimPiece*>(host.raw()));
    const MemoryScope scope(device, MemoryUse::optimizer);
    memory_ = device.tensor(shape, Dtype::u8);
    device.copy(host, memory_);
    partial_ = device.tensor({2 * size()}, Dtype::f64);
  }
  const OptimPiece* data() const { return static_cast<const OptimPiece*>(memory_.raw()); }
  int64_t size() const { return static_cast<int64_t>(pieces_.size()); }
  /// Room for two numbers for each piece.
  double* partial() const { return partial_.data<double>(); }

 private:
  std::vector<OptimPiece> pieces_;
  Tensor memory_, partial_;
};

/// Adds the pieces of a tensor whose first piece would be `whole`.
void cut(const OptimPiece& whole, std::vector<OptimPiece>& pieces) {
  const auto first = static_cast<int64_t>(pieces.size());
  for (int64_t at = 0; at < whole.count; at += kOptimPiece) {
    OptimPiece piece = whole;
    piece.first = first;
    piece.pieces = (whole.count + kOptimPiece - 1) / kOptimPiece;
    if (whole.grad != nullptr) piece.grad += at;
    if (whole.value != nullptr) piece.value += at;
    if (whole.momentum != nullptr) piece.momentum += at;
    if (whole.squares != nullptr) piece.squares += at;
    piece.count = std::min(kOptimPiece, whole.count - at);
    pieces.push_back(piece);
  }
}

class CudaOptimOps final : public OptimOps {
 public:
  CudaOptimOps(CudaDevice& device, math::StepState* state) : device_(device), state_(state) {}

  void judge_gradients(std::span<const Tensor> gradients) override {
    std::vector<OptimPiece> pieces;
    for (const Tensor& t : gradients) {
      check_device_tensor("gradient", t, t.shape(), Dtype::f32);
      cut({.grad = t.data<float>(), .count = t.elements()}, pieces);
    }
    judged_.set(device_, std::move(pieces));
    kernels::cuda::judge_gradients(judged_.data(), judged_.size(), judged_.partial(), state_, device_.compute_stream());
  }

  void squares(const Tensor& gradient, Tensor& sums) override {
    const int64_t parts = sums.elements(), n = gradient.elements();
    check_device_tensor("sums of squares", sums, {parts}, Dtype::f64);
    if (parts == 0) return;
    check_device_tensor("gradient", gradient, gradient.shape(), Dtype::f32);
    PLSC_CHECK(n % parts == 0, "{} in {} parts", gradient.shape().text(), parts);
    const cudaStream_t stream = device_.compute_stream();
    if (parts == 1) {
      const Tensor partial = device_.tensor({(n + kOptimPiece - 1) / kOptimPiece}, Dtype::f64);
      kernels::cuda::all_squares(gradient.data<float>(), n, partial.data<double>(), sums.data<double>(), stream);
    } else if (n == 0) {
      device_.fill_zero(sums);
    } else {
      kernels::cuda::part_squares(gradient.data<float>(), parts, n / parts, sums.data<double>(), stream);
    }
  }

  void note_head_squares(const Tensor& sums) override {
    check_device_tensor("sums of squares", sums, {sums.elements()}, Dtype::f64);
    kernels::cuda::note_head_squares(sums.data<double>(), sums.elements(), state_, device_.compute_stream());
  }

  void clip(Tensor& gradient) override {
    check_device_tensor("gradient", gradient, gradient.shape(), Dtype::f32);
    kernels::cuda::clip(gradient.data<float>(), gradient.elements(), state_, device_.compute_stream());
  }

  void check_finite(const Tensor& gradient) override {
    check_device_tensor("gradient", gradient, gradient.shape(), Dtype::f32);
    kernels::cuda::check_finite(gradient.data<float>(), gradient.elements(), state_, device_.compute_stream());
  }

  void update(std::span<const ParamGroup> groups) override {
    if (groups.size() > tables_.size()) tables_.resize(groups.size());
    for (size_t i = 0; i < groups.size(); ++i) update(groups[i], tables_[i]);
  }

  void average(std::span<Param* const> params, const math::AverageRule& rule) override {
    std::vector<OptimPiece> pieces;
    for (const Param* p : params) {
      check_device_tensor(p->name.c_str(), p->value, p->value.shape(), Dtype::f32);
      check_device_tensor(p->name.c_str(), p->average, p->value.shape(), Dtype::f32);
      cut({.value = p->value.data<float>(), .momentum = p->average.data<float>(), .count = p->value.elements()},
          pieces);
    }
    averaged_.set(device_, std::move(pieces));
    kernels::cuda::average(averaged_.data(), averaged_.size(), rule, state_, device_.compute_stream());
  }

  void finish_step() override { kernels::cuda::finish_step(state_, device_.compute_stream()); }

 private:
  void update(const ParamGroup& group, PieceTable& table) {
    table.set(device_, pieces_of(group));
    const math::UpdateGroup& rule = group.rule;
    const cudaStream_t stream = device_.compute_stream();
    switch (rule.kind) {
      case math::UpdateKind::sgd:
        return kernels::cuda::sgd(table.data(), table.size(), rule, state_, stream);
      case math::UpdateKind::adamw:
        return kernels::cuda::adamw(table.data(), table.size(), rule, state_, stream);
      case math::UpdateKind::lars:
        return kernels::cuda::lars(table.data(), table.size(), rule, table.partial(), state_, stream);
      case math::UpdateKind::lamb:
        if (!rule.layer_wise) return kernels::cuda::adamw(table.data(), table.size(), rule, state_, stream);
        return kernels::cuda::lamb(table.data(), table.size(), rule, table.partial(), state_, stream);
    }
  }

  static std::vector<OptimPiece> pieces_of(const ParamGroup& group) {
    const bool second = math::has_second_moment(group.rule.kind);
    std::vector<OptimPiece> pieces;
    for (const Param* p : group.params) {
      const Shape& shape = p->value.shape();
      check_device_tensor(p->name.c_str(), p->value, shape, Dtype::f32);
      check_device_tensor(p->name.c_str(), p->grad, shape, Dtype::f32);
      check_device_tensor(p->name.c_str(), p->momentum, shape, Dtype::f32);
      if (second) check_device_tensor(p->name.c_str(), p->squares, shape, Dtype::f32);
      cut({.grad = p->grad.data<float>(),
           .value = p->value.data<float>(),
           .momentum = p->momentum.data<float>(),
           .squares = second ? p->squares.data<float>() : nullptr,
           .count = shape.elements()},
          pieces);
    }
    return pieces;
  }

  CudaDevice& device_;
  math::StepState* state_;
  PieceTable judged_, averaged_;
  std::vector<PieceTable> tables_;  // of each group
};

}  // namespace

std::unique_ptr<OptimOps> make_cuda_optim_ops(CudaDevice& device, math::StepState* state) {
  return std::make_unique<CudaOptimOps>(device, state);
}

}  // namespace plsc
