// How a stored row of class centres changes on a CPU: brought up to date where it lies, and its optimizer's step.
#pragma once
#include <cmath>

#include "backend/cpu/row_weights.h"
#include "kernels/cpu/row_update.h"
#include "kernels/math/step_state.h"

namespace plsc {

/// Writes a row that was changed in fp32, w and v (columns), to where it is stored in bf16; in fp32 they are there.
inline void keep_row(const RowTile& tile, int64_t row, int64_t columns, const float* w, const float* v) {
  if (tile.weight_type != Dtype::f32) {
    kernels::row_round(row_random(tile, row, math::Draw::rounding), w, columns,
                       static_cast<kernels::Bf16*>(tile.weight) + row * columns);
  }
  if (tile.momentum_type != Dtype::f32) {
    kernels::row_round(row_random(tile, row, math::Draw::momentum_rounding), v, columns,
                       static_cast<kernels::Bf16*>(tile.momentum) + row * columns);
  }
}

/// Brings a row that missed steps up to date where it lies.
inline void catch_up_row(const RowTile& tile, int64_t row, int64_t columns, RowScratch& buffers) {
  MissedSteps missed;
  find_missed_steps(tile, row, missed);
  if (missed.matrix != nullptr) {
    float* w = row_weights(tile, row, columns, buffers.weights.data());
    float* v = row_momentum(tile, row, columns, buffers.momentum.data());
    kernels::row_catch_up(*missed.matrix, w, v, columns);
    if (tile.second_moment != nullptr) tile.second_moment[row] *= missed.second;
    keep_row(tile, row, columns, w, v);
  }
  tile.lag.last_update[row] = tile.lag.next;
}

/// A step's rule, with what of it is the same for all rows.
struct RowUpdate {
  RowUpdate(const math::UpdateRule& rule_, const math::StepState& state) : rule(rule_), sgd(math::sgd_rule(rule_)) {
    if (math::has_second_moment(rule.kind)) adam = math::adam_rule(rule, math::update_number(state));
  }
  math::UpdateRule rule;
  math::SgdRule sgd;
  math::AdamRule adam;
};

/// A step by a rule that wants the row's norms, in fp32: w and v (columns) are changed, and *second, which lars has
/// none of.
struct NormedRow {
  const float* g = nullptr;
  float* w = nullptr;
  float* v = nullptr;
  float* second = nullptr;
  int64_t columns = 0, padding = 0;
};
inline void step_by_norms(const RowUpdate& update, const NormedRow& row) {
  const double g_squares = kernels::sum_of_squares(row.g, row.columns);
  if (update.rule.kind == math::UpdateKind::lars) {
    const float rate = math::lars_rate(update.rule, kernels::sum_of_squares(row.w, row.columns), g_squares);
    kernels::row_lars(update.rule, rate, row.g, row.w, row.v, row.columns);
    return;
  }
  const math::AdamRule& adam = update.adam;
  *row.second = math::row_second_moment(adam, *row.second, g_squares, row.columns - row.padding);
  kernels::row_adam_mean(adam, row.g, row.v, row.columns);
  float rate = adam.lr;
  if (update.rule.kind == math::UpdateKind::lamb) {
    const double u_squares = kernels::row_direction_squares(adam, row.w, row.v, *row.second, row.columns);
    rate = math::lamb_rate(adam, kernels::sum_of_squares(row.w, row.columns), u_squares);
  }
  kernels::row_along_direction(adam, rate, *row.second, row.w, row.v, row.columns);
}

/// The row's step: caught up, updated, and rounded where it is stored in bf16.
inline void step_row(const RowTile& tile, int64_t row, const kernels::RowGradient& gradient, const RowUpdate& update,
                     RowScratch& buffers) {
  MissedSteps missed;
  find_missed_steps(tile, row, missed);
  const int64_t columns = gradient.columns;
  if (update.rule.kind == math::UpdateKind::sgd) {
    kernels::RowStep step;
    step.gradient = gradient;
    step.rule = update.sgd;
    step.missed = missed.matrix;
    if (tile.weight_type != Dtype::f32) step.weights = row_random(tile, row, math::Draw::rounding);
    if (tile.momentum_type != Dtype::f32) step.momentum = row_random(tile, row, math::Draw::momentum_rounding);
    with_row(tile, row, columns, [&](auto* w, auto* v) { kernels::row_step(step, w, v); });
  } else {
    float* w = row_weights(tile, row, columns, buffers.weights.data());
    float* v = row_momentum(tile, row, columns, buffers.momentum.data());
    float* second = tile.second_moment == nullptr ? nullptr : tile.second_moment + row;
    if (missed.matrix != nullptr) kernels::row_catch_up(*missed.matrix, w, v, columns);
    if (missed.matrix != nullptr && second != nullptr) *second *= missed.second;
    kernels::row_write_gradient(gradient, w, buffers.gradient.data());
    step_by_norms(update, {buffers.gradient.data(), w, v, second, columns, tile.padding});
    keep_row(tile, row, columns, w, v);
  }
  if (tile.lag.last_update != nullptr) tile.lag.last_update[row] = tile.lag.next + 1;
}

}  // namespace plsc
