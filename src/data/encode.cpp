// Writing PNG (libpng's simplified interface) and JPEG (libjpeg-turbo), and sheets of many images.
#include "data/encode.h"

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
// jpeglib.h needs size_t and FILE from before.
#include <jpeglib.h>

#include "base/error.h"
#include "base/files.h"

namespace plsc {
namespace {

struct ErrorState {
  jpeg_error_mgr base;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void on_error(j_common_ptr info) {
  auto* state = reinterpret_cast<ErrorState*>(info->err);
  info->err->format_message(info, state->message);
  std::longjmp(state->jump, 1);
}

/// No C++ object with a destructor lives here: libjpeg leaves by longjmp. `buffer` is libjpeg's, from malloc.
bool compress(jpeg_compress_struct& info, ErrorState& error, const Pixels& pixels, int quality, unsigned char** buffer,
              unsigned long* bytes) {
  info.err = jpeg_std_error(&error.base);
  error.base.error_exit = on_error;
  if (setjmp(error.jump)) return false;
  jpeg_create_compress(&info);
  jpeg_mem_dest(&info, buffer, bytes);
  info.image_width = static_cast<JDIMENSION>(pixels.width);
  info.image_height = static_cast<JDIMENSION>(pixels.height);
  info.input_components = static_cast<int>(pixels.channels);
  info.in_color_space = pixels.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, quality, TRUE);
  info.dct_method = JDCT_ISLOW;
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    auto* row = const_cast<uint8_t*>(pixels.bytes.data()) +
                static_cast<size_t>(info.next_scanline) * static_cast<size_t>(pixels.width * pixels.channels);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  return true;
}

}  // namespace

std::vector<uint8_t> encode_png(const Pixels& pixels) {
  PLSC_CHECK(pixels.channels == 1 || pixels.channels == 3);
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(pixels.width);
  image.height = static_cast<png_uint_32>(pixels.height);
  image.format = pixels.channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::vector<uint8_t> out(bytes);
  if (!png_image_write_to_memory(&image, out.data(), &bytes, 0, pixels.bytes.data(), 0, nullptr)) {
    fail("cannot encode a PNG of {} x {}: {}", pixels.width, pixels.height, image.message);
  }
  out.resize(bytes);
  return out;
}

std::vector<uint8_t> encode_jpeg(const Pixels& pixels, int quality) {
  PLSC_CHECK(pixels.channels == 1 || pixels.channels == 3);
  jpeg_compress_struct info{};
  ErrorState error{};
  unsigned char* buffer = nullptr;
  unsigned long bytes = 0;
  const bool good = compress(info, error, pixels, quality, &buffer, &bytes);
  std::vector<uint8_t> out;
  if (good) out.assign(buffer, buffer + bytes);
  jpeg_destroy_compress(&info);
  std::free(buffer);
  if (!good) fail("cannot encode a JPEG of {} x {}: {}", pixels.width, pixels.height, error.message);
  return out;
}

void write_file_bytes(const std::string& path, std::span<const uint8_t> bytes) {
  File file = File::create(path);
  file.write(std::as_bytes(bytes));
  file.close();
}

Pixels contact_sheet(const std::vector<Pixels>& tiles, int64_t columns, int64_t tile_size) {
  const auto count = static_cast<int64_t>(tiles.size());
  const int64_t rows = (count + columns - 1) / columns, pitch = tile_size + 2;
  Pixels sheet{rows * pitch + 2, columns * pitch + 2, 3, {}};
  sheet.bytes.assign(static_cast<size_t>(sheet.height * sheet.width * 3), 64);
  for (int64_t i = 0; i < count; ++i) {
    Pixels tile = tiles[static_cast<size_t>(i)];
    if (tile.height != tile_size || tile.width != tile_size) tile = resize_pixels(tile, tile_size, tile_size, true);
    for (int64_t y = 0; y < tile_size; ++y) {
      uint8_t* to = sheet.bytes.data() + ((i / columns * pitch + 2 + y) * sheet.width + i % columns * pitch + 2) * 3;
      const uint8_t* from = tile.bytes.data() + y * tile_size * tile.channels;
      for (int64_t x = 0; x < tile_size * 3; ++x) to[x] = from[tile.channels == 3 ? x : x / 3];
    }
  }
  return sheet;
}

}  // namespace plsc
