// Procedural many-class images: every class is a character of a few strokes that nobody has seen before, every image
// one person's way of writing it. An open-set task with as many classes as wanted, made from nothing.
#pragma once
#include <cstdint>

#include "data/decode.h"

namespace plsc {

struct GlyphStyle {
  int64_t size = 32;     // height and width
  int64_t channels = 1;  // 3: coloured ink on coloured paper
  uint64_t seed = 1;
};

/// Image `image` of class `glyph`: a function of the arguments alone. Strokes are cubic Bezier curves between points
/// that belong to the class; an image moves them a little, turns, shears, scales and shifts the whole, and draws it
/// with a pen, an ink, a paper and a noise of its own.
Pixels draw_glyph(const GlyphStyle& style, int64_t glyph, int64_t image);

}  // namespace plsc
