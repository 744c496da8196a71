// A convolution's windows laid side by side, as rows of (kernel row, kernel column, channel), and back: what turns a
// convolution into a matrix product.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/element.h"

namespace plsc::kernels {

/// One image (height, width, channels) and the square windows over it.
struct WindowShape {
  int64_t height = 0, width = 0, channels = 0;
  int64_t kernel = 0, stride = 0, pad = 0;
  int64_t out_height = 0, out_width = 0;
};

/// The windows of row `oh` of the output: (out_width, kernel, kernel, channels), zero outside of the image.
/// `element` is the size of one value in bytes.
void copy_windows(const WindowShape& shape, size_t element, const std::byte* image, int64_t oh, std::byte* out);

/// Row `h` of the image (width, channels) = the sum of all values of the windows (out_height, out_width, kernel,
/// kernel, channels) that lie over it.
void sum_windows(const WindowShape& shape, const float* windows, int64_t h, float* row);
void sum_windows(const WindowShape& shape, const float* windows, int64_t h, Bf16* row);

}  // namespace plsc::kernels
