// The compute seam, part 4: from bytes to the network's input.
#pragma once
#include <array>

#include "tensor/tensor.h"

namespace plsc {

/// y = (x - mean) / std per channel; image i is mirrored left-right where flip[i] != 0.
struct ImageNormalize {
  Tensor bytes;                        // (N, H, W, C) u8
  Tensor flip;                         // (N) u8, or undefined for none
  std::array<float, 3> mean{}, std{};  // one per channel
  Tensor y;                            // (N, H, W, C) fp32 or 16 bit
};

class ImageOps {
 public:
  virtual ~ImageOps() = default;
  virtual void normalize(const ImageNormalize& args) = 0;
};

}  // namespace plsc
