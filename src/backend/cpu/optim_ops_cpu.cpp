// The optimizer's arithmetic on the CPU, in pieces over threads.
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
  explicit CpuOptimOps(Device& device) : threads_(device.threads()) {}

  void sgd(Param& param, const math::SgdRule& rule) override {
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

  double sum_of_squares(std::span<const Tensor> gradients) override {
    double total = 0;
    for (const Tensor& t : gradients) {
      check_tensor("gradient", t, t.shape(), gradient_type(t));
      with_type(t, [&](const auto* x) { total += sum_of(x, t.elements()); });
    }
    return total;
  }

 private:
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
};

}  // namespace

std::unique_ptr<OptimOps> make_cpu_optim_ops(Device& device) { return std::make_unique<CpuOptimOps>(device); }

}  // namespace plsc
