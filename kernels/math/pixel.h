// From a byte of an image to the network's input.
#pragma once
#include <cstdint>

#include "kernels/math/host_device.h"

namespace plsc::math {

PLSC_HD_INLINE float normalized(uint8_t byte, float mean, float std) { return (static_cast<float>(byte) - mean) / std; }

}  // namespace plsc::math
