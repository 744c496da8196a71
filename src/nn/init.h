// First values of a network's weights.
#pragma once
#include <functional>
#include <vector>

#include "runtime/context.h"
#include "tensor/param.h"

namespace plsc {

enum class InitScheme {
  arcface_torch,  // convolutions N(0, .1); linear layers U(+-1/sqrt(fan_in)), weights and biases
  torchvision,    // convolutions N(0, sqrt(2 / fan_out)); linear layers as above
  plsc,           // convolutions and linear layers N(0, sqrt(2 / fan_out)), biases 0
};

/// Which parameters to draw; empty: all.
using WantedParams = std::function<bool(const Param&)>;

/// Draws convolution and linear weights from (seed, index in `params`, element): the same on any rank count. Norms,
/// slopes and buffers keep what their layers gave them.
void draw_weights(Context& context, const std::vector<Param*>& params, InitScheme scheme, const WantedParams& wanted);

}  // namespace plsc
