// Resizing by OpenCV's imgproc.
#include <algorithm>
#include <cmath>
#include <mutex>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "base/error.h"
#include "data/decode.h"

namespace plsc {
namespace {

/// The middle part of the image that has the target's shape, to the nearest pixel.
cv::Rect middle(int64_t height, int64_t width, int64_t to_height, int64_t to_width) {
  const double scale = std::min(static_cast<double>(height) / static_cast<double>(to_height),
                                static_cast<double>(width) / static_cast<double>(to_width));
  const auto fitted = [scale](int64_t to, int64_t most) {
    return std::clamp<int64_t>(std::llround(scale * static_cast<double>(to)), 1, most);
  };
  const int64_t h = fitted(to_height, height), w = fitted(to_width, width);
  return {static_cast<int>((width - w) / 2), static_cast<int>((height - h) / 2), static_cast<int>(w),
          static_cast<int>(h)};
}

}  // namespace

Pixels resize_pixels(const Pixels& image, int64_t height, int64_t width, bool fit_crop) {
  // Images are resized on many threads of ours already.
  static std::once_flag once;
  std::call_once(once, [] { cv::setNumThreads(1); });
  const int type = image.channels == 1 ? CV_8UC1 : CV_8UC3;
  cv::Mat from(static_cast<int>(image.height), static_cast<int>(image.width), type,
               const_cast<uint8_t*>(image.bytes.data()));
  if (fit_crop) from = from(middle(image.height, image.width, height, width));
  Pixels out{height, width, image.channels, std::vector<uint8_t>(static_cast<size_t>(height * width * image.channels))};
  cv::Mat to(static_cast<int>(height), static_cast<int>(width), type, out.bytes.data());
  const bool shrinks = from.rows >= height && from.cols >= width;
  cv::resize(from, to, to.size(), 0, 0, shrinks ? cv::INTER_AREA : cv::INTER_LINEAR);
  PLSC_CHECK(to.data == out.bytes.data());
  return out;
}

}  // namespace plsc
