// A step of a head in tests: prepared and begun in one call, and its sums read back.
#pragma once
#include <utility>
#include <vector>

#include "head/margin_head.h"
#include "support/step_state.h"

namespace plsc::test {

/// `labels`: of each micro-batch of this rank.
inline void begin_head_by(Context& context, MarginHead& head, std::vector<std::vector<int64_t>> labels,
                          const StepInfo& info, const math::UpdateRule& rule) {
  math::StepInputs inputs;
  inputs.step = info.step;
  inputs.first_sample = info.first_sample;
  inputs.dynamic_scale = context.loss_scaling ? 1 : 0;
  begin_step(context.backend, inputs);
  head.prepare_step(context, {std::move(labels), info});
  head.begin_step(context, rule);
}
/// By SGD.
inline void begin_head(Context& context, MarginHead& head, std::vector<std::vector<int64_t>> labels,
                       const StepInfo& info, const math::SgdRule& rule) {
  begin_head_by(context, head, std::move(labels), info, math::update_rule(rule));
}

/// HeadResult::sums on the host.
struct HeadTotals {
  double loss_sum = 0;
  int64_t correct = 0;
  double intra_sum = 0;
};
inline HeadTotals totals_of(Context& context, const HeadResult& result) {
  const auto read = context.device().start_read(result.sums);
  const auto sums = read->get().span<double>();
  return {sums[0], static_cast<int64_t>(sums[1]), sums[2]};
}

}  // namespace plsc::test
