// Choosing the codec, and from decoded pixels to what the network is given.
#include "data/decode.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/error.h"
#include "data/loader.h"

namespace plsc {
namespace {

bool begins(std::span<const uint8_t> bytes, std::string_view magic, size_t at = 0) {
  return bytes.size() >= at + magic.size() && std::memcmp(bytes.data() + at, magic.data(), magic.size()) == 0;
}

void check_limits(int64_t height, int64_t width, const std::string& where) {
  if (height < 1 || width < 1 || height > kMaxImageSide || width > kMaxImageSide || height * width > kMaxImagePixels) {
    fail("{}: an image of {} x {} pixels: expected at most {} a side and {} million in all", where, width, height,
         kMaxImageSide, kMaxImagePixels >> 20);
  }
}

}  // namespace

std::string image_format(std::span<const uint8_t> bytes) {
  using std::string_view_literals::operator""sv;
  if (begins(bytes, "\xff\xd8\xff")) return "JPEG";
  if (begins(bytes, "\x89PNG\r\n\x1a\n")) return "PNG";
  if (begins(bytes, "RIFF") && begins(bytes, "WEBP", 8)) return "WebP";
  if (begins(bytes, "II*\0"sv) || begins(bytes, "MM\0*"sv)) return "TIFF";
  if (begins(bytes, "\0\0\0\x0cjP  "sv)) return "JPEG 2000";
  if (begins(bytes, "GIF8")) return "GIF";
  if (begins(bytes, "BM")) return "BMP";
  if (bytes.size() > 2 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6' && bytes[2] <= ' ') return "PNM";
  return "";
}

Pixels decode_pixels(std::span<const uint8_t> encoded, int64_t channels, const std::string& where,
                     const SizeCheck& check) {
  PLSC_CHECK(channels == 1 || channels == 3, "{} channels", channels);
  const SizeCheck both = [&](int64_t height, int64_t width) {
    check_limits(height, width, where);
    if (check) check(height, width);
  };
  const std::string format = image_format(encoded);
  if (format == "JPEG") return decode_jpeg(encoded, channels, where, both);
  if (format == "PNG") return decode_png(encoded, channels, where, both);
  if (!format.empty()) return decode_other(encoded, channels, where, both);
  std::string bytes;
  for (size_t i = 0; i < std::min<size_t>(8, encoded.size()); ++i) bytes += fmt::format(" {:02x}", encoded[i]);
  fail("{}: {} bytes that are no image of a known format (they begin with{})", where, encoded.size(),
       bytes.empty() ? " nothing" : bytes);
}

Pixels to_grey(const Pixels& rgb) {
  Pixels grey{rgb.height, rgb.width, 1, std::vector<uint8_t>(static_cast<size_t>(rgb.height * rgb.width))};
  const uint8_t* p = rgb.bytes.data();
  for (uint8_t& y : grey.bytes) {
    // 0.299, 0.587, 0.114 times 2^14
    y = static_cast<uint8_t>((p[0] * 4899 + p[1] * 9617 + p[2] * 1868 + 8192) >> 14);
    p += 3;
  }
  return grey;
}

void decode_image(const RawSample& sample, const DataConfig& data, std::span<uint8_t> out) {
  const int64_t height = data.image_size[0], width = data.image_size[1];
  PLSC_CHECK(static_cast<int64_t>(out.size()) == height * width * data.channels, "{} bytes", out.size());
  if (sample.encoded.empty()) {
    if (sample.pixels.size() != out.size()) {
      fail("{}: {} bytes of pixels, expected {} ({} x {} x {})", sample.where, sample.pixels.size(), out.size(), height,
           width, data.channels);
    }
    std::copy(sample.pixels.begin(), sample.pixels.end(), out.begin());
    return;
  }
  const bool exact = data.resize == "exact";
  const SizeCheck check = [&](int64_t h, int64_t w) {
    if (exact && (h != height || w != width)) {
      fail_hint("set data.image_size to the images' own size, or data.resize to stretch or fit_crop",
                "{}: the image is {} x {} (height x width), data.image_size says {} x {}", sample.where, h, w, height,
                width);
    }
  };
  Pixels pixels = decode_pixels(sample.encoded, data.channels, sample.where, check);
  if (pixels.height != height || pixels.width != width) {
    pixels = resize_pixels(pixels, height, width, data.resize == "fit_crop");
  }
  std::copy(pixels.bytes.begin(), pixels.bytes.end(), out.begin());
}

}  // namespace plsc
