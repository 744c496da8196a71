// The SGD update of one element, as torch.optim.SGD computes it with dampening 0. The scalar truth for replicated
// parameters and for rows of class centres, on every device.
#pragma once

#include "kernels/math/host_device.h"

namespace plsc::math {

struct SgdRule {
  float lr = 0;
  float momentum = 0;
  float weight_decay = 0;
  float gradient_scale = 1;  // clipping: multiplies g before the decay is added
  bool nesterov = false;
};

/// g' = gradient_scale g + weight_decay w; v = momentum v + g'; w -= lr (nesterov ? g' + momentum v : v).
/// v = 0 before the first step gives v = g', as PyTorch's first step does.
PLSC_HD inline void sgd_update(const SgdRule& rule, float g, float& w, float& v) {
  const float decayed = rule.gradient_scale * g + rule.weight_decay * w;
  v = rule.momentum * v + decayed;
  w -= rule.lr * (rule.nesterov ? decayed + rule.momentum * v : v);
}

}  // namespace plsc::math
