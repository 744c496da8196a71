// Formats beyond JPEG and PNG, by OpenCV's imgcodecs. Its own bounds (2^20 a side, 2^30 pixels) hold while it decodes.
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "base/error.h"
#include "data/decode.h"

namespace plsc {

Pixels decode_other(std::span<const uint8_t> encoded, int64_t channels, const std::string& where,
                    const SizeCheck& check) {
  cv::Mat image;
  try {
    const cv::Mat bytes(1, static_cast<int>(encoded.size()), CV_8U, const_cast<uint8_t*>(encoded.data()));
    const int mode = channels == 1 ? cv::IMREAD_GRAYSCALE : cv::IMREAD_COLOR;
    image = cv::imdecode(bytes, mode | cv::IMREAD_IGNORE_ORIENTATION);
    if (channels == 3 && !image.empty()) cv::cvtColor(image, image, cv::COLOR_BGR2RGB);
  } catch (const cv::Exception& error) {
    fail("{}: a damaged {} image: {}", where, image_format(encoded), error.err);
  }
  if (image.empty()) {
    fail("{}: a damaged {} image, or of a kind that OpenCV cannot read", where, image_format(encoded));
  }
  check(image.rows, image.cols);
  PLSC_CHECK(image.isContinuous() && image.channels() == channels);
  return {image.rows, image.cols, channels, {image.data, image.data + image.total() * image.elemSize()}};
}

}  // namespace plsc
