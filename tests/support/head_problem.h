// One step of a head whose logits are cosines on random embeddings and centres, and what the textbook's head
// (head_reference.h) says of it. head_step_test.cpp says where the tolerances come from.
#pragma once
#include "support/catch.h"
#include "support/head_cases.h"
#include "support/head_context.h"
#include "support/head_step.h"

namespace plsc::test {

struct HeadProblem {
  int64_t samples, classes, columns;
  std::vector<double> embeddings, weights;
  std::vector<int64_t> labels;
};

inline HeadProblem random_problem(int64_t samples, int64_t classes, int64_t columns, uint64_t stream) {
  return {samples,
          classes,
          columns,
          random_values(samples * columns, 3 * stream),
          random_values(classes * columns, 3 * stream + 1),
          random_labels(samples, classes, stream)};
}

struct SeenStep {
  HeadResult result;
  HeadTotals totals;
  std::vector<double> d_weight;
};

/// One step with lr 0 and no decay: the momentum that it leaves is the gradient of the rows.
inline SeenStep run_head(Context& context, const HeadConfig& config, const HeadProblem& p, int64_t step = 0) {
  auto head = drawn_head(context, config, p.classes, p.columns);
  Tensor centers = head_rows(*head, "centers");
  set_values(context, centers, p.weights);
  begin_head(context, *head, {p.labels}, {.step = step, .global_batch = p.samples}, {.lr = 0, .momentum = 0.9F});
  SeenStep seen;
  seen.result = head->run(context, to_device_tensor(context, p.embeddings, {p.samples, p.columns}));
  seen.totals = totals_of(context, seen.result);
  head->end_step(context);
  seen.d_weight = to_doubles(context, head_rows(*head, "momentum"));
  CHECK(relative_error(to_doubles(context, centers), p.weights) == 0);
  return seen;
}

inline void check_step(Context& context, const HeadConfig& config, const HeadProblem& p, const ReferenceHead& reference,
                       int64_t step, double gradient_tolerance = 2e-4, double loss_tolerance = 1e-4) {
  const ReferenceStep expected =
      reference_step(reference, p.embeddings, p.labels, p.weights, 1.0 / static_cast<double>(p.samples));
  const SeenStep seen = run_head(context, config, p, step);
  INFO(config.kind << " " << config.margin.name << " " << config.gradient << " scale " << config.scale << ": "
                   << p.samples << " samples, " << p.classes << " classes x " << p.columns << ", filter "
                   << config.interclass_filter.value_or(9) << ", sampling " << config.sampling.method);
  CHECK(std::abs(seen.totals.loss_sum - expected.loss_sum) <
        loss_tolerance * static_cast<double>(p.samples) + 1e-6 * expected.loss_sum);
  CHECK(std::abs(seen.totals.intra_sum - expected.intra_sum) <
        loss_tolerance * static_cast<double>(p.samples) + 1e-6 * expected.intra_sum);
  CHECK(seen.totals.correct == expected.correct);
  CHECK(seen.result.samples == p.samples);
  // With next to no loss left, what remains of the gradient is as small as the rounding of the embeddings' gradient.
  CHECK(relative_error(to_doubles(context, seen.result.d_embedding), expected.d_embedding, 1e-6) < gradient_tolerance);
  CHECK(relative_error(seen.d_weight, expected.d_weight, 1e-6) < gradient_tolerance);
}

}  // namespace plsc::test
