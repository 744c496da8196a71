// Synthetic glyphs: repeatable, different, and neither trivial nor hopeless.
#include "data/glyphs.h"

#include <algorithm>
#include <cmath>

#include "data/pairs.h"
#include "data_support.h"

using namespace plsc;

namespace {

double cosine(const Pixels& a, const Pixels& b) {
  const auto mean = [](const Pixels& p) {
    double sum = 0;
    for (const uint8_t v : p.bytes) sum += v;
    return sum / static_cast<double>(p.bytes.size());
  };
  const double ma = mean(a), mb = mean(b);
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.bytes.size(); ++i) {
    const double x = a.bytes[i] - ma, y = b.bytes[i] - mb;
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  return ab / std::sqrt(aa * bb);
}

}  // namespace

TEST_CASE("glyphs are a function of seed, class and image") {
  for (const int64_t channels : {1, 3}) {
    const GlyphStyle style{32, channels, 4};
    const Pixels one = draw_glyph(style, 7, 3);
    CHECK(one.bytes.size() == static_cast<size_t>(32 * 32 * channels));
    CHECK(one.bytes == draw_glyph(style, 7, 3).bytes);
    CHECK(one.bytes != draw_glyph(style, 7, 4).bytes);
    CHECK(one.bytes != draw_glyph(style, 8, 3).bytes);
    CHECK(one.bytes != draw_glyph({32, channels, 5}, 7, 3).bytes);
  }
}

TEST_CASE("the ink stays in the picture, at every size") {
  for (const int64_t size : {8, 32, 112}) {
    for (int64_t glyph = 0; glyph < 20; ++glyph) {
      const Pixels p = draw_glyph({size, 1, 1}, glyph, 0);
      const auto [low, high] = std::minmax_element(p.bytes.begin(), p.bytes.end());
      CHECK(*high - *low > 50);
    }
  }
}

TEST_CASE("raw pixels solve verification a little and not well: a network has something to learn") {
  const int64_t glyphs = 60, images = 8;
  std::vector<Pixels> pictures;
  std::vector<int64_t> labels;
  for (int64_t g = 0; g < glyphs; ++g) {
    for (int64_t i = 0; i < images; ++i) {
      pictures.push_back(draw_glyph({32, 1, 1}, g, i));
      labels.push_back(g);
    }
  }
  std::vector<std::pair<double, bool>> scores;
  for (const auto& p : choose_pairs(labels, 1000, 1)) {
    scores.emplace_back(cosine(pictures[static_cast<size_t>(p.a)], pictures[static_cast<size_t>(p.b)]), p.same);
  }
  std::sort(scores.begin(), scores.end());
  // Accuracy at the best threshold.
  int64_t right = 500, best = 500;
  for (const auto& [score, same] : scores) {
    right += same ? -1 : 1;  // below the threshold: called different
    best = std::max(best, right);
  }
  const double accuracy = static_cast<double>(best) / 1000;
  INFO("accuracy of raw pixels: " << accuracy);
  CHECK(accuracy > 0.6);
  CHECK(accuracy < 0.9);
}
