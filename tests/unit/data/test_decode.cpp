// Decoding against OpenCV's decoders, resizing against OpenCV's own call, and images that are damaged or hostile.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "data/loader.h"
#include "data_support.h"

using namespace plsc;
using namespace plsc::test;

namespace {

/// A smooth picture with some edges: what a photograph is to a JPEG coder.
cv::Mat picture(int height, int width, int type = CV_8UC3) {
  cv::Mat image(height, width, CV_8UC3);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const bool edge = (x / 7 + y / 5) % 4 == 0;
      image.at<cv::Vec3b>(y, x) = {static_cast<uint8_t>(255 * x / width), static_cast<uint8_t>(255 * y / height),
                                   static_cast<uint8_t>(edge ? 200 : 255 * (x + y) / (width + height))};
    }
  }
  if (type == CV_8UC1) cv::cvtColor(image, image, cv::COLOR_BGR2GRAY);
  return image;
}

std::vector<uint8_t> encoded(const cv::Mat& image, const std::string& extension, const std::vector<int>& options = {}) {
  std::vector<uint8_t> bytes;
  REQUIRE(cv::imencode(extension, image, bytes, options));
  return bytes;
}

/// The largest difference to what OpenCV decodes.
int difference(const Pixels& ours, const std::vector<uint8_t>& bytes) {
  const bool grey = ours.channels == 1;
  cv::Mat image = cv::imdecode(bytes, (grey ? cv::IMREAD_GRAYSCALE : cv::IMREAD_COLOR) | cv::IMREAD_IGNORE_ORIENTATION);
  if (!grey) cv::cvtColor(image, image, cv::COLOR_BGR2RGB);
  REQUIRE(image.rows == ours.height);
  REQUIRE(image.cols == ours.width);
  int most = 0;
  for (size_t i = 0; i < ours.bytes.size(); ++i)
    most = std::max(most, std::abs(int{ours.bytes[i]} - int{image.data[i]}));
  return most;
}

DataConfig sized(int64_t height, int64_t width, int64_t channels, const std::string& resize = "exact") {
  DataConfig config;
  config.image_size = {height, width};
  config.channels = channels;
  config.resize = resize;
  return config;
}

std::vector<uint8_t> decoded(const std::vector<uint8_t>& bytes, const DataConfig& config) {
  std::vector<uint8_t> out(static_cast<size_t>(config.image_size[0] * config.image_size[1] * config.channels));
  decode_image({bytes, {}, 0, "photo"}, config, out);
  return out;
}

}  // namespace

TEST_CASE("JPEG: colour, grey, odd sizes, progressive, as OpenCV decodes them") {
  for (const int64_t channels : {3, 1}) {
    for (const int type : {CV_8UC3, CV_8UC1}) {
      for (const auto& options : {std::vector<int>{cv::IMWRITE_JPEG_QUALITY, 90},
                                  std::vector<int>{cv::IMWRITE_JPEG_PROGRESSIVE, 1, cv::IMWRITE_JPEG_QUALITY, 40}}) {
        const auto bytes = encoded(picture(37, 51, type), ".jpg", options);
        // Both use libjpeg's accurate DCT; the colour conversion and upsampling are libjpeg's too: equal, or one level
        // apart where a build of OpenCV carries another libjpeg.
        CHECK(difference(decode_pixels(bytes, channels, "x"), bytes) <= 1);
      }
    }
  }
}

TEST_CASE("PNG: every kind exactly") {
  const cv::Mat colour = picture(23, 31), grey = picture(23, 31, CV_8UC1);
  cv::Mat alpha, wide;
  cv::cvtColor(colour, alpha, cv::COLOR_BGR2BGRA);
  for (int i = 0; i < 23 * 31; ++i) alpha.data[4 * i + 3] = static_cast<uint8_t>(i);
  for (const cv::Mat& image : {colour, grey, alpha}) {
    const auto bytes = encoded(image, ".png");
    CHECK(difference(decode_pixels(bytes, 3, "x"), bytes) == 0);
    CHECK(difference(decode_pixels(bytes, 1, "x"), bytes) <= (image.channels() == 1 ? 0 : 1));
  }
  const auto bits = encoded(grey > 128, ".png", {cv::IMWRITE_PNG_BILEVEL, 1});
  REQUIRE(bits[24] == 1);  // the bit depth
  CHECK(difference(decode_pixels(bits, 1, "x"), bits) == 0);
  CHECK(difference(decode_pixels(bits, 3, "x"), bits) == 0);

  // 16 bits: rounded, where OpenCV cuts off.
  grey.convertTo(wide, CV_16U, 257, 100);
  const auto wide_bytes = encoded(wide, ".png");
  REQUIRE(wide_bytes[24] == 16);
  const Pixels pixels = decode_pixels(wide_bytes, 1, "x");
  for (int i = 0; i < 23 * 31; ++i) {
    CHECK(pixels.bytes[static_cast<size_t>(i)] == std::lround(wide.at<uint16_t>(i / 31, i % 31) / 257.0));
  }
}

TEST_CASE("PNG with a palette") {
  // 2 x 1 pixels, a palette of red and blue, indices 1 and 0, two bits each: made by hand, checksums by Python's zlib.
  const std::vector<uint8_t> bytes{
      0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00,
      0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x01, 0x02, 0x03, 0x00, 0x00, 0x00, 0x89, 0x4c, 0x97, 0x19, 0x00,
      0x00, 0x00, 0x06, 0x50, 0x4c, 0x54, 0x45, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0x6c, 0xa1, 0xfd, 0x8e,
      0x00, 0x00, 0x00, 0x0a, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x70, 0x00, 0x00, 0x00, 0x42, 0x00,
      0x41, 0x29, 0x37, 0xf4, 0xef, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82};
  const Pixels rgb = decode_pixels(bytes, 3, "x");
  CHECK(rgb.width == 2);
  CHECK(rgb.bytes == std::vector<uint8_t>{0, 0, 255, 255, 0, 0});
  // 601 luma of blue and red.
  CHECK(decode_pixels(bytes, 1, "x").bytes == std::vector<uint8_t>{29, 76});
}

TEST_CASE("what we encode is decoded: PNG exactly, JPEG nearly") {
  for (const int64_t channels : {1, 3}) {
    const Pixels image = small_image(3, 20, 30, channels);
    CHECK(decode_pixels(encode_png(image), channels, "x").bytes == image.bytes);
    const cv::Mat smooth = picture(40, 40, channels == 1 ? CV_8UC1 : CV_8UC3);
    Pixels pixels{40, 40, channels, {smooth.data, smooth.data + 1600 * channels}};
    const Pixels back = decode_pixels(encode_jpeg(pixels, 98), channels, "x");
    double sum = 0;
    for (size_t i = 0; i < back.bytes.size(); ++i) sum += std::abs(int{back.bytes[i]} - int{pixels.bytes[i]});
    CHECK(sum / static_cast<double>(back.bytes.size()) < 8);  // edges of the picture blur in subsampled colour
  }
}

TEST_CASE("other formats, as OpenCV decodes them") {
  for (const char* extension : {".bmp", ".ppm", ".tiff", ".webp"}) {
    const auto bytes = encoded(picture(20, 30), extension);
    CHECK(image_format(bytes) != "");
    CHECK(difference(decode_pixels(bytes, 3, "x"), bytes) == 0);
    CHECK(difference(decode_pixels(bytes, 1, "x"), bytes) == 0);
  }
}

TEST_CASE("an EXIF orientation is ignored") {
  auto bytes = encoded(picture(20, 30), ".jpg");
  // An APP1 segment after the SOI: Exif, little-endian TIFF, one entry: orientation 6 (turn by 90 degrees).
  const std::vector<uint8_t> exif{0xff, 0xe1, 0,    34,   'E', 'x', 'i', 'f', 0, 0, 'I', 'I', 42, 0, 8, 0, 0, 0,
                                  1,    0,    0x12, 0x01, 3,   0,   1,   0,   0, 0, 6,   0,   0,  0, 0, 0, 0, 0};
  bytes.insert(bytes.begin() + 2, exif.begin(), exif.end());
  const Pixels pixels = decode_pixels(bytes, 3, "x");
  CHECK(pixels.height == 20);
  CHECK(difference(pixels, bytes) <= 1);
}

TEST_CASE("exact: another size is an error that names both") {
  const auto bytes = encoded(picture(20, 30), ".png");
  const std::string error = error_of([&] { decoded(bytes, sized(30, 20, 3)); });
  CHECK(contains(error, "photo"));
  CHECK(contains(error, "20 x 30"));
  CHECK(contains(error, "30 x 20"));
  CHECK(contains(error, "data.resize"));
  CHECK(decoded(bytes, sized(20, 30, 3)).size() == 1800);
}

TEST_CASE("stretch and fit_crop") {
  const cv::Mat image = picture(60, 90);
  const auto bytes = encoded(image, ".png");
  cv::Mat rgb, expected;
  cv::cvtColor(image, rgb, cv::COLOR_BGR2RGB);
  const auto same = [&](const std::vector<uint8_t>& ours) {
    return std::memcmp(ours.data(), expected.data, ours.size()) == 0;
  };
  cv::resize(rgb, expected, {32, 24}, 0, 0, cv::INTER_AREA);
  CHECK(same(decoded(bytes, sized(24, 32, 3, "stretch"))));
  cv::resize(rgb, expected, {100, 70}, 0, 0, cv::INTER_LINEAR);
  CHECK(same(decoded(bytes, sized(70, 100, 3, "stretch"))));
  // The middle 60 x 60 of 60 x 90.
  cv::resize(rgb(cv::Rect(15, 0, 60, 60)), expected, {30, 30}, 0, 0, cv::INTER_AREA);
  CHECK(same(decoded(bytes, sized(30, 30, 3, "fit_crop"))));
  // A sliver: the crop stays at least a pixel.
  CHECK(decoded(encoded(picture(1, 300), ".png"), sized(16, 8, 3, "fit_crop")).size() == 16 * 8 * 3);
  // A size that fits is left alone.
  expected = rgb;
  CHECK(same(decoded(bytes, sized(60, 90, 3, "stretch"))));
}

TEST_CASE("damaged images are errors that name the sample, wherever they are cut") {
  const auto jpeg = encoded(picture(24, 24), ".jpg");
  const auto progressive = encoded(picture(24, 24), ".jpg", {cv::IMWRITE_JPEG_PROGRESSIVE, 1});
  const auto png = encoded(picture(24, 24), ".png");
  for (const auto& bytes : {jpeg, progressive, png}) {
    for (size_t cut = 0; cut < bytes.size(); ++cut) {
      const std::vector<uint8_t> part(bytes.begin(), bytes.begin() + static_cast<long>(cut));
      const std::string error = error_of([&] { decode_pixels(part, 3, "train.rec, key 9"); });
      // A JPEG whose last bytes alone are lost (end marker, bits that pad) still holds every pixel.
      if (error.empty()) {
        CHECK(bytes != png);
        CHECK(cut + 24 > bytes.size());
      } else {
        CHECK(contains(error, "train.rec, key 9"));
      }
    }
  }
}

TEST_CASE("any byte of an image may be wrong") {
  for (const auto& bytes : {encoded(picture(16, 16), ".jpg"), encoded(picture(16, 16), ".png")}) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      auto bad = bytes;
      bad[i] = static_cast<uint8_t>(bad[i] ^ (i % 2 == 0 ? 0xff : 0x10));
      error_of([&] { decode_pixels(bad, 3, "x"); });  // an error or some pixels; nothing else
    }
  }
}

TEST_CASE("a few bytes that claim a huge image are refused before memory is taken") {
  auto png = encoded(picture(8, 8), ".png");
  // Width and height in the header, and its checksum recomputed by libpng's own rule (CRC-32).
  const auto put = [&](size_t at, uint32_t v) {
    for (size_t i = 0; i < 4; ++i) png[at + i] = static_cast<uint8_t>(v >> (24 - 8 * i));
  };
  put(16, 60000);
  put(20, 60000);
  uint32_t crc = 0xffffffffu;
  for (size_t i = 12; i < 29; ++i) {
    crc ^= png[i];
    for (int k = 0; k < 8; ++k) crc = crc & 1 ? 0xedb88320u ^ (crc >> 1) : crc >> 1;
  }
  put(29, ~crc);
  CHECK(contains(error_of([&] { decode_pixels(png, 3, "bomb"); }), "60000 x 60000"));

  auto jpeg = encoded(picture(8, 8), ".jpg");
  for (size_t i = 0; i + 8 < jpeg.size(); ++i) {
    if (jpeg[i] == 0xff && jpeg[i + 1] == 0xc0) jpeg[i + 5] = jpeg[i + 7] = 0xf0;
  }
  CHECK(contains(error_of([&] { decode_pixels(jpeg, 3, "bomb"); }), "bomb"));
}

TEST_CASE("what is no image says how it begins") {
  const std::vector<uint8_t> text{'<', 'h', 't', 'm', 'l', '>'};
  CHECK(contains(error_of([&] { decode_pixels(text, 3, "page.jpg"); }), "3c 68 74"));
  CHECK(contains(error_of([&] { decode_pixels({}, 3, "page.jpg"); }), "0 bytes"));
}

TEST_CASE("pixels that a source made are taken as they are") {
  std::vector<uint8_t> out(12);
  RawSample sample;
  for (uint8_t i = 0; i < 12; ++i) sample.pixels.push_back(i);
  decode_image(sample, sized(2, 2, 3), out);
  CHECK(out == sample.pixels);
  sample.pixels.pop_back();
  CHECK(error_of([&] { decode_image(sample, sized(2, 2, 3), out); }) != "");
}

TEST_CASE("Omniglot's one-bit images, where they are at hand") {
  const std::string tar = shared_data("omniglot.tar.xz");
  if (tar.empty()) {
    WARN("skipped: ../shared/data/omniglot.tar.xz is not there");
    return;
  }
  const TempFolder folder;
  const std::string some = " --wildcards 'background/Alphabet_of_the_Magi-*'";
  REQUIRE(std::system(("tar xf " + tar + " -C " + folder.path() + some).c_str()) == 0);
  const auto source = open_source(std::vector<std::string>{folder / "background"});
  REQUIRE(source->size() == 400);
  CHECK(source->classes() == 20);
  for (int64_t i = 0; i < source->size(); i += 7) {
    const RawSample sample = source->read(i);
    REQUIRE(sample.encoded[24] == 1);
    const Pixels pixels = decode_pixels(sample.encoded, 1, sample.where);
    CHECK(pixels.height == 105);
    CHECK(difference(pixels, sample.encoded) == 0);
    cv::Mat expected;
    cv::resize(cv::imdecode(sample.encoded, cv::IMREAD_GRAYSCALE), expected, {32, 32}, 0, 0, cv::INTER_AREA);
    const auto ours = decoded(sample.encoded, sized(32, 32, 1, "stretch"));
    CHECK(std::memcmp(ours.data(), expected.data, ours.size()) == 0);
  }
}
