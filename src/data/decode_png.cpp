// PNG by libpng: every bit depth and colour type, to 8 bits grey or RGB. No gamma is applied.
#include <png.h>

#include <csetjmp>
#include <cstring>

#include "base/error.h"
#include "data/decode.h"

namespace plsc {
namespace {

/// What libpng's callbacks see. Errors leave by longjmp: no C++ object with a destructor in the frames jumped over.
struct PngState {
  const uint8_t* data = nullptr;
  size_t bytes = 0, at = 0;
  char message[256] = "";
};

[[noreturn]] void on_error(png_structp png, png_const_charp text) {
  auto* state = static_cast<PngState*>(png_get_error_ptr(png));
  std::strncpy(state->message, text, sizeof state->message - 1);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_read(png_structp png, png_bytep out, size_t bytes) {
  auto* state = static_cast<PngState*>(png_get_io_ptr(png));
  if (bytes > state->bytes - state->at) png_error(png, "the data is cut off");
  std::memcpy(out, state->data + state->at, bytes);
  state->at += bytes;
}

class PngReader {
 public:
  explicit PngReader(std::span<const uint8_t> encoded) {
    state_.data = encoded.data();
    state_.bytes = encoded.size();
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &state_, on_error, on_warning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    PLSC_CHECK(info_ != nullptr, "libpng gave no memory");
  }
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  bool read_header() {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_set_read_fn(png_, &state_, on_read);
    png_set_user_limits(png_, static_cast<png_uint_32>(kMaxImageSide) + 1, static_cast<png_uint_32>(kMaxImageSide) + 1);
    png_read_info(png_, info_);
    return true;
  }

  /// Asks for 8 bits, grey or RGB, and no alpha; the channels that the rows then have: 1 or 3.
  bool prepare(bool rgb) {
    if (setjmp(png_jmpbuf(png_))) return false;
    const int type = png_get_color_type(png_, info_);
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png_);
    if (type == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png_);
    png_set_scale_16(png_);
    png_set_strip_alpha(png_);
    if (rgb && (type & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(png_);
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    return true;
  }

  bool read_rows(uint8_t** rows) {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_read_image(png_, rows);
    png_read_end(png_, nullptr);
    return true;
  }

  int64_t height() const { return png_get_image_height(png_, info_); }
  int64_t width() const { return png_get_image_width(png_, info_); }
  int64_t channels() const { return png_get_channels(png_, info_); }
  size_t row_bytes() const { return png_get_rowbytes(png_, info_); }
  const char* message() const { return state_.message; }

 private:
  PngState state_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

}  // namespace

Pixels decode_png(std::span<const uint8_t> encoded, int64_t channels, const std::string& where,
                  const SizeCheck& check) {
  PngReader reader(encoded);
  if (!reader.read_header()) fail("{}: a damaged PNG image: {}", where, reader.message());
  check(reader.height(), reader.width());
  if (!reader.prepare(channels == 3)) fail("{}: a damaged PNG image: {}", where, reader.message());
  Pixels pixels{reader.height(), reader.width(), reader.channels(), {}};
  const auto stride = static_cast<size_t>(pixels.width * pixels.channels);
  PLSC_CHECK(reader.row_bytes() == stride && (pixels.channels == 1 || pixels.channels == 3), "{} bytes a row",
             reader.row_bytes());
  pixels.bytes.resize(static_cast<size_t>(pixels.height) * stride);
  std::vector<uint8_t*> rows;
  for (int64_t y = 0; y < pixels.height; ++y) rows.push_back(pixels.bytes.data() + static_cast<size_t>(y) * stride);
  if (!reader.read_rows(rows.data())) fail("{}: a damaged PNG image: {}", where, reader.message());
  return channels == 1 && pixels.channels == 3 ? to_grey(pixels) : pixels;
}

}  // namespace plsc
