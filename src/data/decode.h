// From encoded bytes to pixels: JPEG by libjpeg-turbo, PNG by libpng, other formats by OpenCV where the build has it.
// Colours come as RGB. An EXIF orientation is ignored: aligned training images carry none, and a rotation that
// depends on metadata would be a silent difference between tools.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace plsc {

/// (height, width, channels) bytes, rows without gaps; channels 1 (grey) or 3 (RGB).
struct Pixels {
  int64_t height = 0, width = 0, channels = 0;
  std::vector<uint8_t> bytes;
};

/// Called with (height, width) as soon as a header is read, before memory is taken; throws to refuse.
using SizeCheck = std::function<void(int64_t height, int64_t width)>;

/// Images beyond these are refused: a few bytes can claim terabytes.
constexpr int64_t kMaxImageSide = 65500;
constexpr int64_t kMaxImagePixels = int64_t{1} << 27;

/// Decodes into 1 or 3 channels. Alpha is dropped, 16 bits are rounded to 8, grey from RGB is ITU-R 601 luma (JPEG: its
/// own Y). Damaged or cut off images throw Error beginning with `where`.
Pixels decode_pixels(std::span<const uint8_t> encoded, int64_t channels, const std::string& where,
                     const SizeCheck& check = {});

/// "JPEG", "PNG", "WebP", ... by the first bytes; empty: no image format that is known.
std::string image_format(std::span<const uint8_t> encoded);

/// `resize: stretch` and `fit_crop`: to (height, width); the area method where it shrinks, bilinear where it grows.
/// fit_crop keeps the middle part that has the target's shape.
Pixels resize_pixels(const Pixels& image, int64_t height, int64_t width, bool fit_crop);

// The codecs behind decode_pixels.
Pixels decode_jpeg(std::span<const uint8_t> encoded, int64_t channels, const std::string& where,
                   const SizeCheck& check);
Pixels decode_png(std::span<const uint8_t> encoded, int64_t channels, const std::string& where, const SizeCheck& check);
/// Formats beyond JPEG and PNG; a build without OpenCV's imgcodecs refuses them by name (no_imgcodecs.cpp).
Pixels decode_other(std::span<const uint8_t> encoded, int64_t channels, const std::string& where,
                    const SizeCheck& check);

/// (height, width, 3) to one channel: ITU-R 601 luma in 14-bit fixed point, rounded.
Pixels to_grey(const Pixels& rgb);

}  // namespace plsc
