#include "optim/optimizer.h"

#include <utility>
#include <vector>

#include "base/error.h"

namespace plsc {
namespace {

math::UpdateKind kind_of(const std::string& name) {
  if (const auto kind = math::update_kind(name)) return *kind;
  fail("optimizer.name is '{}'; known: sgd, adamw, lars, lamb", name);
}

}  // namespace

void zero_grad(std::span<Param* const> params) {
  for (Param* p : params) p->grad_stale = true;
}

math::UpdateKind head_update(const OptimizerConfig& config) {
  return kind_of(config.head.name == "auto" ? config.name : config.head.name);
}

Optimizer::Optimizer(const OptimizerConfig& config) : config_(config) {
  weights_.kind = norms_.kind = kind_of(config.name);
  weights_.layer_wise = math::is_layer_wise(weights_.kind);
  weights_.weight_decay = static_cast<float>(config.weight_decay);
  norms_.lr = static_cast<float>(config.norms.lr);
  norms_.weight_decay =
      static_cast<float>(config.norms.weight_decay.value_or(config.decay_norms ? config.weight_decay : 0));
}

math::UpdateRule Optimizer::rule(double lr) const {
  return {.kind = weights_.kind,
          .lr = static_cast<float>(lr),
          .weight_decay = static_cast<float>(config_.weight_decay),
          .momentum = static_cast<float>(config_.momentum),
          .trust = static_cast<float>(config_.trust),
          .epsilon = static_cast<float>(config_.epsilon),
          .nesterov = config_.nesterov,
          .beta1 = config_.beta1,
          .beta2 = config_.beta2};
}

math::UpdateRule Optimizer::head_rule(double lr) const {
  math::UpdateRule head = rule(lr * config_.head.lr);
  head.kind = head_update(config_);
  if (config_.head.weight_decay) head.weight_decay = static_cast<float>(*config_.head.weight_decay);
  return head;
}

void Optimizer::begin(Context& context, std::span<Param* const> params) const {
  const MemoryScope scope(context.device(), MemoryUse::optimizer);
  for (Param* p : params) {
    if (!p->trainable()) continue;
    if (!p->momentum.defined()) p->momentum = context.device().zeros(p->value.shape());
    if (math::has_second_moment(weights_.kind) && !p->squares.defined())
      p->squares = context.device().zeros(p->value.shape());
  }
}

void Optimizer::step(Context& context, std::span<Param* const> params) const {
  begin(context, params);
  const MemoryScope scope(context.device(), MemoryUse::optimizer);
  std::vector<Tensor> gradients;
  ParamGroup groups[] = {{{}, weights_}, {{}, norms_}};
  std::vector<Param*> compressed;
  for (Param* p : params) {
    if (!p->trainable()) continue;
    PLSC_CHECK(p->grad.defined() && !p->grad_stale, "{} has no gradient of this step", p->name);
    gradients.push_back(p->grad);
    if (p->part.defined()) {
      compressed.push_back(p);
    } else {
      groups[p->kind == ParamKind::weight ? 0 : 1].params.push_back(p);
    }
  }
  OptimOps& ops = *context.backend.optim;
  ops.judge_gradients(gradients);
  ops.update(groups);
  if (!compressed.empty()) context.backend.compress->descend(compressed, weights_);
}

}  // namespace plsc
