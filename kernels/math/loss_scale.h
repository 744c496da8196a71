// The scale of the loss in fp16: gradients below 6e-8 would be zero there, so all of them are multiplied by a number
// that is as large as overflow allows. Dynamic, as torch.amp.GradScaler does it: halved at an overflow, doubled after
// many steps without one.
#pragma once

#include "kernels/math/host_device.h"

namespace plsc::math {

struct LossScaleRule {
  double growth = 2, backoff = 0.5;
  double interval = 2000;     // steps without overflow before it grows
  double largest = 16777216;  // beyond it nothing is gained, and fp32 sums come nearer to their own end
};

struct LossScale {
  double scale = 1;
  double good_steps = 0;  // since it last changed
};

inline constexpr double kFirstLossScale = 65536;
/// An overflow at a scale as small as this is no matter of the scale.
inline constexpr double kSmallestLossScale = 1.0 / 1024;

PLSC_HD inline LossScale next_loss_scale(const LossScaleRule& rule, const LossScale& now, bool overflow) {
  if (overflow) return {now.scale * rule.backoff, 0};
  if (now.good_steps + 1 < rule.interval) return {now.scale, now.good_steps + 1};
  const double grown = now.scale * rule.growth;
  return {grown < rule.largest ? grown : rule.largest, 0};
}

}  // namespace plsc::math
