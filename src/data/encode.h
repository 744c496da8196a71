// From pixels to files: PNG and JPEG.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/decode.h"

namespace plsc {

/// (height, width, 1 or 3 channels), lossless.
std::vector<uint8_t> encode_png(const Pixels& pixels);
/// quality 1 to 100.
std::vector<uint8_t> encode_jpeg(const Pixels& pixels, int quality);

void write_file_bytes(const std::string& path, std::span<const uint8_t> bytes);

/// The tiles in rows of `columns`, each shrunk or grown to tile_size a side, with a thin border; always RGB.
Pixels contact_sheet(const std::vector<Pixels>& tiles, int64_t columns, int64_t tile_size);

}  // namespace plsc
