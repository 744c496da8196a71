// JPEG by libjpeg-turbo, with the accurate integer DCT, so that every machine decodes the same pixels.
#include <csetjmp>
#include <cstdio>
// jpeglib.h needs size_t and FILE from before.
#include <jerror.h>
#include <jpeglib.h>

#include "base/error.h"
#include "data/decode.h"

namespace plsc {
namespace {

/// libjpeg reports errors by a call that must not return: longjmp is its way. No C++ object with a destructor lives
/// in a frame that is jumped over.
struct ErrorState {
  jpeg_error_mgr base;  // first: libjpeg hands back a pointer to it
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void on_error(j_common_ptr info) {
  auto* state = reinterpret_cast<ErrorState*>(info->err);
  info->err->format_message(info, state->message);
  std::longjmp(state->jump, 1);
}

/// libjpeg goes on after data that is cut off or garbled, with grey for what is missing. That is a damaged image here.
void on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_MUST_RESYNC:
      on_error(info);
    default:
      return;  // stray bytes between segments, odd version numbers: harmless
  }
}

class JpegReader {
 public:
  JpegReader() {
    info_.err = jpeg_std_error(&error_.base);
    error_.base.error_exit = on_error;
    error_.base.emit_message = on_message;
    error_.message[0] = 0;
  }
  ~JpegReader() {
    if (created_) jpeg_destroy_decompress(&info_);
  }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  bool read_header(const uint8_t* data, size_t bytes) {
    if (setjmp(error_.jump)) return false;
    jpeg_create_decompress(&info_);
    created_ = true;
    jpeg_mem_src(&info_, data, static_cast<unsigned long>(bytes));
    jpeg_read_header(&info_, TRUE);
    return true;
  }

  bool decode(uint8_t* out, J_COLOR_SPACE space, size_t stride) {
    if (setjmp(error_.jump)) return false;
    info_.out_color_space = space;
    info_.dct_method = JDCT_ISLOW;
    jpeg_start_decompress(&info_);
    while (info_.output_scanline < info_.output_height) {
      JSAMPROW row = out + static_cast<size_t>(info_.output_scanline) * stride;
      jpeg_read_scanlines(&info_, &row, 1);
    }
    return true;
  }

  const jpeg_decompress_struct& info() const { return info_; }
  const char* message() const { return error_.message; }

 private:
  jpeg_decompress_struct info_{};
  ErrorState error_{};
  bool created_ = false;
};

/// Adobe's four-colour files hold inverted inks.
Pixels cmyk_to_rgb(const std::vector<uint8_t>& cmyk, int64_t height, int64_t width, bool inverted) {
  Pixels rgb{height, width, 3, std::vector<uint8_t>(static_cast<size_t>(height * width * 3))};
  for (size_t i = 0; i < static_cast<size_t>(height * width); ++i) {
    const int k = inverted ? cmyk[4 * i + 3] : 255 - cmyk[4 * i + 3];
    for (size_t c = 0; c < 3; ++c) {
      const int ink = inverted ? cmyk[4 * i + c] : 255 - cmyk[4 * i + c];
      rgb.bytes[3 * i + c] = static_cast<uint8_t>((ink * k + 127) / 255);
    }
  }
  return rgb;
}

}  // namespace

Pixels decode_jpeg(std::span<const uint8_t> encoded, int64_t channels, const std::string& where,
                   const SizeCheck& check) {
  JpegReader reader;
  if (!reader.read_header(encoded.data(), encoded.size())) {
    fail("{}: a damaged JPEG image: {}", where, reader.message());
  }
  const int64_t height = reader.info().image_height, width = reader.info().image_width;
  check(height, width);
  const J_COLOR_SPACE stored = reader.info().jpeg_color_space;
  const bool inks = stored == JCS_CMYK || stored == JCS_YCCK;
  const bool grey = channels == 1 && (stored == JCS_GRAYSCALE || stored == JCS_YCbCr);
  Pixels pixels{height, width, inks ? 4 : grey ? 1 : 3, {}};
  pixels.bytes.resize(static_cast<size_t>(height * width * pixels.channels));
  const J_COLOR_SPACE space = inks ? JCS_CMYK : grey ? JCS_GRAYSCALE : JCS_RGB;
  if (!reader.decode(pixels.bytes.data(), space, static_cast<size_t>(width * pixels.channels))) {
    fail("{}: a damaged JPEG image: {}", where, reader.message());
  }
  if (inks) pixels = cmyk_to_rgb(pixels.bytes, height, width, reader.info().saw_Adobe_marker);
  return channels == 1 && pixels.channels == 3 ? to_grey(pixels) : pixels;
}

}  // namespace plsc
