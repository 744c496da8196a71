#include "optim/sgd.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"

namespace plsc {

void zero_grad(std::span<Param* const> params) {
  for (Param* p : params) p->grad_stale = true;
}

Sgd::Sgd(const OptimizerConfig& config, double clip_norm) : config_(config), clip_norm_(clip_norm) {
  if (config.name != "sgd") fail("optimizer.name is '{}'; known: sgd", config.name);
}

double Sgd::step(Context& context, std::span<Param* const> params, double lr, int64_t step) const {
  std::vector<Tensor> gradients;
  for (const Param* p : params) {
    if (!p->trainable()) continue;
    PLSC_CHECK(p->grad.defined() && !p->grad_stale, "{} has no gradient of step {}", p->name, step);
    gradients.push_back(p->grad);
  }
  OptimOps& ops = *context.backend.optim;
  const double norm = std::sqrt(ops.sum_of_squares(gradients));
  if (!std::isfinite(norm)) {
    fail_hint("lower schedule.base_lr, lengthen the warm-up, or set train.clip_norm",
              "the backbone's gradient is not finite (norm {}) at step {}; its parameters are unchanged", norm, step);
  }
  math::SgdRule rule;
  rule.lr = static_cast<float>(lr);
  rule.momentum = static_cast<float>(config_.momentum);
  rule.nesterov = config_.nesterov;
  if (clip_norm_ > 0) rule.gradient_scale = static_cast<float>(std::min(1.0, clip_norm_ / (norm + 1e-6)));
  for (Param* p : params) {
    if (!p->trainable()) continue;
    if (!p->momentum.defined()) p->momentum = context.device().zeros(p->value.shape());
    const bool decays = config_.decay_norms || p->kind == ParamKind::weight;
    rule.weight_decay = decays ? static_cast<float>(config_.weight_decay) : 0.0f;
    ops.sgd(*p, rule);
  }
  return norm;
}

}  // namespace plsc
