#include "optim/weight_average.h"

#include <utility>

namespace plsc {
namespace {

/// Counters (num_batches_tracked) have no mean, and nothing reads them.
bool averages(const Param& p) { return p.value.dtype() == Dtype::f32; }

}  // namespace

void WeightAverage::begin(Context& context, std::span<Param* const> params) const {
  if (!on()) return;
  const MemoryScope scope(context.device(), MemoryUse::optimizer);
  for (Param* p : params) {
    if (!averages(*p) || p->average.defined()) continue;
    p->average = context.device().tensor(p->value.shape());
    context.device().copy(p->value, p->average);
  }
}

void WeightAverage::step(Context& context, std::span<Param* const> params) const {
  if (!on()) return;
  std::vector<Param*> averaged;
  for (Param* p : params)
    if (averages(*p)) averaged.push_back(p);
  context.backend.optim->average(averaged, rule_);
}

AveragedWeights::AveragedWeights(std::vector<Param*> params) : params_(std::move(params)) { swap(); }
AveragedWeights::~AveragedWeights() { swap(); }

void AveragedWeights::swap() {
  for (Param* p : params_)
    if (p->average.defined()) std::swap(p->value, p->average);
}

}  // namespace plsc
