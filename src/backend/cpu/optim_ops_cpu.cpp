// The optimizer's arithmetic on the CPU, in pieces over threads.
#include <cmath>

#include "backend/cpu/ops_cpu.h"
#include "backend/cpu/parts.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/update.h"

namespace plsc {
namespace {

using kernels::TwoSquares;
using kernels::UpdateRange;

constexpr int64_t kSumBlock = 4096;

Dtype gradient_type(const Tensor& g) { return g.defined() && g.dtype() == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

/// body(the elements of a gradient), which are fp32 or double.
template <class Body>
void with_type(const Tensor& gradient, const Body& body) {
  gradient.dtype() == Dtype::f64 ? body(gradient.data<double>()) : body(gradient.data<float>());
}

void check_param(const Param& param, math::UpdateKind kind) {
  const Shape& shape = param.value.shape();
  check_tensor(param.name.c_str(), param.value, shape, Dtype::f32);
  check_tensor(param.name.c_str(), param.grad, shape, gradient_type(param.grad));
  check_tensor(param.name.c_str(), param.momentum, shape, Dtype::f32);
  if (math::has_second_moment(kind)) check_tensor(param.name.c_str(), param.squares, shape, Dtype::f32);
}

template <class T>
UpdateRange<T> range_of(Param& p, const T* grad, int64_t begin, int64_t end) {
  UpdateRange<T> range{grad + begin, p.value.data<float>() + begin, p.momentum.data<float>() + begin, nullptr,
                       end - begin};
  if (p.squares.defined()) range.squares = p.squares.data<float>() + begin;
  return range;
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

  void squares(const Tensor& gradient, Tensor& sums) override {
    const int64_t parts = sums.elements();
    check_tensor("sums of squares", sums, {parts}, Dtype::f64);
    if (parts == 0) return;
    check_tensor("gradient", gradient, gradient.shape(), Dtype::f32);
    const int64_t each = gradient.elements() / parts;
    PLSC_CHECK(each * parts == gradient.elements(), "{} in {} parts", gradient.shape().text(), parts);
    const float* x = gradient.data<float>();
    double* out = sums.data<double>();
    if (parts == 1) {
      out[0] = sum_of(x, each);
      return;
    }
    for_parts(parts, std::max<int64_t>(1, kElementsPerPart / std::max<int64_t>(1, each)), threads_,
              [&](int64_t begin, int64_t end, int) {
                for (int64_t i = begin; i < end; ++i) out[i] = kernels::sum_of_squares(x + i * each, each);
              });
  }

  void note_head_squares(const Tensor& sums) override {
    check_tensor("sums of squares", sums, {sums.elements()}, Dtype::f64);
    double total = 0;
    for (const double s : sums.span<double>()) total += s;
    state_.head_squares = total;
  }

  void clip(Tensor& gradient) override {
    check_tensor("gradient", gradient, gradient.shape(), Dtype::f32);
    const auto factor = static_cast<float>(state_.clip_factor);
    if (math::updates_blocked(state_) || factor == 1) return;
    float* x = gradient.data<float>();
    for_parts(gradient.elements(), kElementsPerPart, threads_,
              [&](int64_t begin, int64_t end, int) { kernels::scale(factor, x + begin, end - begin); });
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
      for (Param* p : group.params) {
        check_param(*p, group.rule.kind);
        with_type(p->grad, [&](const auto* g) { update(*p, g, group.rule); });
      }
    }
  }

  void average(std::span<Param* const> params, const math::AverageRule& rule) override {
    if (math::updates_blocked(state_)) return;
    const float rest = math::average_rest(rule, math::update_number(state_));
    if (rest == 0) return;
    for (Param* p : params) {
      check_tensor(p->name.c_str(), p->value, p->value.shape(), Dtype::f32);
      check_tensor(p->name.c_str(), p->average, p->value.shape(), Dtype::f32);
      const float* value = p->value.data<float>();
      float* average = p->average.data<float>();
      for_parts(p->value.elements(), kElementsPerPart, threads_, [&](int64_t begin, int64_t end, int) {
        kernels::average(rest, value + begin, average + begin, end - begin);
      });
    }
  }

  void finish_step() override { math::finish_step(state_, {}); }

 private:
  template <class T>
  void update(Param& p, const T* g, const math::UpdateGroup& group) const {
    const math::UpdateRule rule = math::step_rule(state_, group);
    switch (group.kind) {
      case math::UpdateKind::sgd:
        return for_ranges(p, g, [r = math::sgd_rule(rule)](const UpdateRange<T>& x) {
          kernels::sgd(r, x.grad, x.value, x.momentum, x.n);
        });
      case math::UpdateKind::adamw:
        return for_ranges(p, g, [r = adam(rule)](const UpdateRange<T>& x) { kernels::adamw(r, x); });
      case math::UpdateKind::lars:
        return lars(p, g, rule, group.layer_wise);
      case math::UpdateKind::lamb:
        if (group.layer_wise) return lamb(p, g, adam(rule));
        return for_ranges(p, g, [r = adam(rule)](const UpdateRange<T>& x) { kernels::adamw(r, x); });
    }
  }

  math::AdamRule adam(const math::UpdateRule& rule) const { return math::adam_rule(rule, math::update_number(state_)); }

  template <class T>
  void lars(Param& p, const T* g, const math::UpdateRule& rule, bool layer_wise) const {
    double ratio = 1;
    if (layer_wise) {
      const TwoSquares sums = squares_of(p, g, [](const UpdateRange<T>& x) { return kernels::lars_squares(x); });
      ratio = math::lars_ratio(rule, std::sqrt(sums.value),
                               std::sqrt(sums.other) * static_cast<double>(rule.gradient_scale));
    }
    const float rate = math::layer_rate(rule.lr, ratio);
    for_ranges(p, g, [&](const UpdateRange<T>& x) { kernels::lars(rule, rate, x); });
  }

  template <class T>
  void lamb(Param& p, const T* g, const math::AdamRule& rule) const {
    const TwoSquares sums = squares_of(p, g, [&](const UpdateRange<T>& x) { return kernels::lamb_moments(rule, x); });
    const float rate = math::layer_rate(rule.lr, math::lamb_ratio(std::sqrt(sums.value), std::sqrt(sums.other)));
    for_ranges(p, g, [&](const UpdateRange<T>& x) { kernels::lamb(rule, rate, x.value, x.momentum, x.squares, x.n); });
  }

  /// body(a thread's part of the parameter)
  template <class T, class Body>
  void for_ranges(Param& p, const T* g, const Body& body) const {
    for_parts(p.value.elements(), kElementsPerPart, threads_,
              [&](int64_t begin, int64_t end, int) { body(range_of(p, g, begin, end)); });
  }

  /// body(a block of the parameter), once each.
  template <class T, class Body>
  TwoSquares squares_of(Param& p, const T* g, const Body& body) const {
    const int64_t n = p.value.elements();
    return sum_blocks<TwoSquares>(
        n, [&](int64_t begin, int64_t end) { return body(range_of(p, g, begin, end)); },
        [](TwoSquares& sum, const TwoSquares& x) {
          sum.value += x.value;
          sum.other += x.other;
        });
  }

  template <class T>
  double sum_of(const T* x, int64_t n) const {
    return sum_blocks<double>(
        n, [&](int64_t begin, int64_t end) { return kernels::sum_of_squares(x + begin, end - begin); },
        [](double& sum, double part) { sum += part; });
  }

  /// By blocks, summed in order: the same for any number of threads.
  template <class Sum, class Block, class Add>
  Sum sum_blocks(int64_t n, const Block& block, const Add& add) const {
    const int64_t blocks = (n + kSumBlock - 1) / kSumBlock;
    std::vector<Sum> sums(static_cast<size_t>(blocks));
    for_parts(blocks, kElementsPerPart / kSumBlock, threads_, [&](int64_t begin, int64_t end, int) {
      for (int64_t b = begin; b < end; ++b)
        sums[static_cast<size_t>(b)] = block(b * kSumBlock, std::min((b + 1) * kSumBlock, n));
    });
    Sum total{};
    for (const Sum& s : sums) add(total, s);
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
