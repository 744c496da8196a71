// What an update needs to know of its optimizer, for every kind of optimizer: what the step's state carries to the
// device, and what the head is given. The formulas: sgd.h, adam.h, trust.h.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/math/sgd.h"

namespace plsc::math {

enum class UpdateKind : int32_t { sgd = 0, adamw = 1, lars = 2, lamb = 3 };

/// Copied as bytes: no padding that is not named.
struct UpdateRule {
  UpdateKind kind = UpdateKind::sgd;
  float lr = 0;
  float weight_decay = 0;
  float gradient_scale = 1;  // clipping: multiplies g before anything else is done with it
  float momentum = 0;        // sgd, lars
  float trust = 0;           // lars: its coefficient
  float epsilon = 0;         // adamw, lamb
  bool nesterov = false;     // sgd
  uint8_t unused[3] = {};
  double beta1 = 0, beta2 = 0;  // adamw, lamb
};
static_assert(sizeof(UpdateRule) == 48);

/// Adam's second moment is beside the first one.
constexpr bool has_second_moment(UpdateKind kind) { return kind == UpdateKind::adamw || kind == UpdateKind::lamb; }
/// The rate of a tensor (or of a row) depends on its norms.
constexpr bool is_layer_wise(UpdateKind kind) { return kind == UpdateKind::lars || kind == UpdateKind::lamb; }

/// Whether what one keeps beside weights means the same to the other: a momentum of gradients, one of steps, or
/// moments.
constexpr bool same_state(UpdateKind a, UpdateKind b) {
  return a == b || (has_second_moment(a) && has_second_moment(b));
}
/// As optimizer.name has it.
constexpr const char* name_of(UpdateKind kind) {
  if (kind == UpdateKind::adamw) return "adamw";
  if (kind == UpdateKind::lars) return "lars";
  return kind == UpdateKind::lamb ? "lamb" : "sgd";
}

/// The other way round; nothing for other words.
inline std::optional<UpdateKind> update_kind(std::string_view name) {
  for (const UpdateKind kind : {UpdateKind::sgd, UpdateKind::adamw, UpdateKind::lars, UpdateKind::lamb})
    if (name == name_of(kind)) return kind;
  return std::nullopt;
}

PLSC_HD inline SgdRule sgd_rule(const UpdateRule& r) {
  return {r.lr, r.momentum, r.weight_decay, r.gradient_scale, r.nesterov};
}
inline UpdateRule update_rule(const SgdRule& r) {
  return {.kind = UpdateKind::sgd,
          .lr = r.lr,
          .weight_decay = r.weight_decay,
          .gradient_scale = r.gradient_scale,
          .momentum = r.momentum,
          .nesterov = r.nesterov};
}

}  // namespace plsc::math
