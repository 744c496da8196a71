// A build without OpenCV's imgcodecs: JPEG and PNG alone.
#include "base/error.h"
#include "data/decode.h"

namespace plsc {

Pixels decode_other(std::span<const uint8_t> encoded, int64_t, const std::string& where, const SizeCheck&) {
  fail("{}: a {} image: this build reads JPEG and PNG alone", where, image_format(encoded));
}

}  // namespace plsc
