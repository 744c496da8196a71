#include "optim/sgd.h"

#include <vector>

#include "base/error.h"

namespace plsc {

void zero_grad(std::span<Param* const> params) {
  for (Param* p : params) p->grad_stale = true;
}

Sgd::Sgd(const OptimizerConfig& config) : config_(config) {
  if (config.name != "sgd") fail("optimizer.name is '{}'; known: sgd", config.name);
}

math::SgdRule Sgd::rule(double lr) const {
  return {.lr = static_cast<float>(lr),
          .momentum = static_cast<float>(config_.momentum),
          .weight_decay = static_cast<float>(config_.weight_decay),
          .nesterov = config_.nesterov};
}

void Sgd::step(Context& context, std::span<Param* const> params) const {
  const MemoryScope scope(context.device(), MemoryUse::optimizer);
  std::vector<Tensor> gradients;
  std::vector<Param*> decaying, others;
  for (Param* p : params) {
    if (!p->trainable()) continue;
    PLSC_CHECK(p->grad.defined() && !p->grad_stale, "{} has no gradient of this step", p->name);
    gradients.push_back(p->grad);
    if (!p->momentum.defined()) p->momentum = context.device().zeros(p->value.shape());
    (config_.decay_norms || p->kind == ParamKind::weight ? decaying : others).push_back(p);
  }
  OptimOps& ops = *context.backend.optim;
  ops.judge_gradients(gradients);
  ops.sgd(decaying, true);
  ops.sgd(others, false);
}

}  // namespace plsc
