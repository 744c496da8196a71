// First values of a network's weights.
#pragma once
#include <cstdint>
#include <vector>

#include "backend/device.h"
#include "tensor/param.h"

namespace plsc {

enum class InitScheme {
  arcface_torch,  // convolutions N(0, .1); linear layers U(+-1/sqrt(fan_in)), weights and biases
  torchvision,    // convolutions N(0, sqrt(2 / fan_out)); linear layers as above
  plsc,           // convolutions and linear layers N(0, sqrt(2 / fan_out)), biases 0
};

/// Draws convolution and linear weights from (seed, index in `params`, element): the same on any rank count. Norms,
/// slopes and buffers keep what their layers gave them.
void draw_weights(Device& device, const std::vector<Param*>& params, InitScheme scheme, uint64_t seed);

}  // namespace plsc
