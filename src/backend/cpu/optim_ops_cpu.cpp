// The optimizer's arithmetic on the CPU, in pieces over threads.
#include <cmath>

#include "backend/cpu/ops_cpu.h"
#include "backend/cpu/parts.h"
#include "kernels/cpu/elementwise.h"

namespace plsc {
namespace {

constexpr int64_t kSumBlock = 4096;

Dtype gradient_type(const Tensor& g) { return g.defined() && g.dtype() == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

/// body(the elements of a gradient), which are fp32 or double.
template <class Body>
void with_type(const Tensor& gradient, const Body& body) {
  gradient.dtype() == Dtype::f64 ? body(gradient.data<double>()) : body(gradient.data<float>());
}

class CpuOptimOps final : public OptimOps {
 public:
  CpuOptimOps(Device& device, math::StepState* state) : threads_(device.threads()), state_(*state) {}

  void judge_gradients(std::span<const Tensor> gradients) override {
    state_.grad_squares = 0;
    for (const Tensor& t : gradients) {
      check_tensor("gradient", t, t.shape(), gradient_type(t));
      with_type(t, [&](const auto* x) { state_.grad_squares += sum_of(x, t.elements()); });
    }
    math::judge_gradient(state_);
  }

  void check_finite(const Tensor& gradient) override {
    // A square that overflows in double belongs to no fp32 number, and a sum with one NaN or infinity is not finite.
    double sum = 0;
    with_type(gradient, [&](const auto* x) { sum = sum_of(x, gradient.elements()); });
    if (!std::isfinite(sum)) math::mark_not_finite(state_, math::StepFailure::gradient);
  }

  void update(std::span<const ParamGroup> groups) override {
    if (math::updates_blocked(state_)) return;
    for (const ParamGroup& group : groups) {
      const math::SgdRule rule = math::sgd_rule(math::step_rule(state_, group.rule));
      for (Param* p : group.params) sgd(*p, rule);
    }
  }

  void finish_step() override { math::finish_step(state_, {}); }

 private:
  void sgd(Param& param, const math::SgdRule& rule) const {
    const Shape& shape = param.value.shape();
    check_tensor(param.name.c_str(), param.value, shape, Dtype::f32);
    check_tensor(param.name.c_str(), param.grad, shape, gradient_type(param.grad));
    check_tensor(param.name.c_str(), param.momentum, shape, Dtype::f32);
    float *w = param.value.data<float>(), *v = param.momentum.data<float>();
    with_type(param.grad, [&](const auto* g) {
      for_parts(shape.elements(), kElementsPerPart, threads_, [&](int64_t begin, int64_t end, int) {
        kernels::sgd(rule, g + begin, w + begin, v + begin, end - begin);
      });
    });
  }

  /// By blocks, summed in order: the same for any number of threads.
  template <class T>
  double sum_of(const T* x, int64_t n) const {
    const int64_t blocks = (n + kSumBlock - 1) / kSumBlock;
    std::vector<double> sums(static_cast<size_t>(blocks));
    for_parts(blocks, kElementsPerPart / kSumBlock, threads_, [&](int64_t begin, int64_t end, int) {
      for (int64_t b = begin; b < end; ++b) {
        const int64_t at = b * kSumBlock;
        sums[static_cast<size_t>(b)] = kernels::sum_of_squares(x + at, std::min(kSumBlock, n - at));
      }
    });
    double total = 0;
    for (double s : sums) total += s;
    return total;
  }

  int threads_;
  math::StepState& state_;
};

}  // namespace

std::unique_ptr<OptimOps> make_cpu_optim_ops(Device& device, math::StepState* state) {
  return std::make_unique<CpuOptimOps>(device, state);
}

}  // namespace plsc
