#include "kernels/cpu/windows.h"

#include <cstring>

namespace plsc::kernels {
namespace {

constexpr int64_t kTile = 512;  // channels summed at a time

/// Where tap `k` of a window meets position `at` of the image: the window's index, or -1.
PLSC_INLINE int64_t window_over(int64_t at, int64_t k, int64_t stride, int64_t pad, int64_t count) {
  const int64_t start = at + pad - k;
  return start >= 0 && start % stride == 0 && start / stride < count ? start / stride : -1;
}

template <class T>
PLSC_INLINE void sum_row(const WindowShape& s, const float* windows, int64_t h, T* row) {
  float sum[kTile];
  for (int64_t w = 0; w < s.width; ++w) {
    for (int64_t begin = 0; begin < s.channels; begin += kTile) {
      const int64_t n = s.channels - begin < kTile ? s.channels - begin : kTile;
      for (int64_t c = 0; c < n; ++c) sum[c] = 0;
      for (int64_t kh = 0; kh < s.kernel; ++kh) {
        const int64_t oh = window_over(h, kh, s.stride, s.pad, s.out_height);
        if (oh < 0) continue;
        for (int64_t kw = 0; kw < s.kernel; ++kw) {
          const int64_t ow = window_over(w, kw, s.stride, s.pad, s.out_width);
          if (ow < 0) continue;
          const int64_t tap = ((oh * s.out_width + ow) * s.kernel + kh) * s.kernel + kw;
          const float* from = windows + tap * s.channels + begin;
          for (int64_t c = 0; c < n; ++c) sum[c] += from[c];
        }
      }
      for (int64_t c = 0; c < n; ++c) store(sum[c], row[w * s.channels + begin + c]);
    }
  }
}

}  // namespace

void copy_windows(const WindowShape& s, size_t element, const std::byte* image, int64_t oh, std::byte* out) {
  const size_t pixel = static_cast<size_t>(s.channels) * element;
  for (int64_t ow = 0; ow < s.out_width; ++ow) {
    for (int64_t kh = 0; kh < s.kernel; ++kh) {
      for (int64_t kw = 0; kw < s.kernel; ++kw, out += pixel) {
        const int64_t h = oh * s.stride - s.pad + kh, w = ow * s.stride - s.pad + kw;
        if (h < 0 || h >= s.height || w < 0 || w >= s.width) {
          std::memset(out, 0, pixel);
        } else {
          std::memcpy(out, image + static_cast<size_t>(h * s.width + w) * pixel, pixel);
        }
      }
    }
  }
}

PLSC_CLONES void sum_windows(const WindowShape& shape, const float* windows, int64_t h, float* row) {
  sum_row(shape, windows, h, row);
}
PLSC_CLONES void sum_windows(const WindowShape& shape, const float* windows, int64_t h, Bf16* row) {
  sum_row(shape, windows, h, row);
}

}  // namespace plsc::kernels
