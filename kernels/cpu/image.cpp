#include "kernels/cpu/image.h"

#include "kernels/math/pixel.h"

namespace plsc::kernels {
namespace {

constexpr int64_t kPiece = 768;  // bytes turned around at a time: a multiple of 1, 3 and 4 channels

template <class T>
PLSC_INLINE void normalize_piece(const uint8_t* bytes, const float* mean, const float* std, T* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) store(math::normalized(bytes[i], mean[i], std[i]), y[i]);
}

/// Pixels [begin, begin + count) of the mirrored row.
PLSC_INLINE void mirror_pixels(const ImageRows& a, const uint8_t* row, int64_t begin, int64_t count, uint8_t* out) {
  for (int64_t p = 0; p < count; ++p) {
    const uint8_t* pixel = row + (a.width - 1 - begin - p) * a.channels;
    for (int64_t c = 0; c < a.channels; ++c) out[p * a.channels + c] = pixel[c];
  }
}

template <class T>
PLSC_INLINE void normalize_all(const ImageRows& a, T* y) {
  const int64_t length = a.width * a.channels, pixels = kPiece / a.channels;
  uint8_t turned[kPiece];
  for (int64_t r = 0; r < a.rows; ++r) {
    const uint8_t* row = a.bytes + r * length;
    T* out = y + r * length;
    if (!a.mirror) {
      normalize_piece(row, a.mean, a.std, out, length);
      continue;
    }
    for (int64_t begin = 0; begin < a.width; begin += pixels) {
      const int64_t count = a.width - begin < pixels ? a.width - begin : pixels;
      mirror_pixels(a, row, begin, count, turned);
      const int64_t at = begin * a.channels;
      normalize_piece(turned, a.mean + at, a.std + at, out + at, count * a.channels);
    }
  }
}

}  // namespace

PLSC_CLONES void normalize_rows(const ImageRows& args, float* y) { normalize_all(args, y); }
PLSC_CLONES void normalize_rows(const ImageRows& args, Bf16* y) { normalize_all(args, y); }

}  // namespace plsc::kernels
