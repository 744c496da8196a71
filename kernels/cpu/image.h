// From decoded bytes to the network's input.
#pragma once
#include <cstdint>

#include "kernels/cpu/element.h"

namespace plsc::kernels {

/// Rows of `width` pixels of `channels` bytes become (byte - mean) / std, the pixels in reverse order where `mirror`.
/// mean and std hold width * channels values: one for each byte of a row, so that the loop is flat.
struct ImageRows {
  const uint8_t* bytes = nullptr;
  int64_t rows = 0, width = 0, channels = 0;
  bool mirror = false;
  const float* mean = nullptr;
  const float* std = nullptr;
};
void normalize_rows(const ImageRows& args, float* y);
void normalize_rows(const ImageRows& args, Bf16* y);

}  // namespace plsc::kernels
