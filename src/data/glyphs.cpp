// Drawing glyphs: see glyphs.h.
#include "data/glyphs.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

#include "kernels/math/rng.h"

namespace plsc {
namespace {

struct Point {
  double x = 0, y = 0;
};
using Curve = std::array<Point, 4>;  // a cubic Bezier, in the unit square

/// The numbers of one class or one image, drawn one after another.
class Dice {
 public:
  Dice(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}
  double uniform(double from, double to) {
    return from + (to - from) * math::to_unit_double(math::random64(seed_, math::Draw::glyph, stream_, next_++));
  }
  int whole(int from, int to) { return std::min(to, static_cast<int>(uniform(from, to + 1))); }  // both included
  double normal() {
    const double u = 1 - uniform(0, 1), v = uniform(0, 2 * std::numbers::pi);
    return std::sqrt(-2 * std::log(u)) * std::cos(v);
  }

 private:
  uint64_t seed_, stream_, next_ = 0;
};

/// A point near one of nine places, as the corners and middles of letters are.
Point place(Dice& dice) {
  const double x = 0.2 + 0.3 * dice.whole(0, 2), y = 0.2 + 0.3 * dice.whole(0, 2);
  return {x + dice.uniform(-0.09, 0.09), y + dice.uniform(-0.09, 0.09)};
}

double distance(Point a, Point b) { return std::hypot(a.x - b.x, a.y - b.y); }

/// Three or four strokes, often one going on where another ended, straight or bent.
std::vector<Curve> some_strokes(Dice& dice) {
  std::vector<Curve> curves;
  const int count = dice.whole(3, 4);
  Point last = place(dice);
  for (int s = 0; s < count; ++s) {
    const Point from = s > 0 && dice.uniform(0, 1) < 0.5 ? last : place(dice);
    Point to = place(dice);
    for (int tries = 0; tries < 8 && distance(from, to) < 0.25; ++tries) to = place(dice);
    const double bend = dice.uniform(0, 1) < 0.4 ? 0.0 : dice.uniform(-0.8, 0.8);
    const double twist = dice.uniform(0, 1) < 0.75 ? bend : -bend;  // an S instead of a bow
    const Point d{to.x - from.x, to.y - from.y};
    const auto control = [&](double t, double b) {
      return Point{from.x + t * d.x - b * d.y, from.y + t * d.y + b * d.x};
    };
    curves.push_back({from, control(0.3, bend), control(0.7, twist), to});
    last = to;
  }
  return curves;
}

/// Whether the strokes' ends spread over a good part of the square both ways: a single line says too little.
bool spreads(const std::vector<Curve>& curves) {
  Point low{1, 1}, high{0, 0};
  for (const Curve& curve : curves) {
    for (const Point p : {curve[0], curve[3]}) {
      low = {std::min(low.x, p.x), std::min(low.y, p.y)};
      high = {std::max(high.x, p.x), std::max(high.y, p.y)};
    }
  }
  return high.x - low.x > 0.4 && high.y - low.y > 0.4;
}

/// The strokes of a class.
std::vector<Curve> strokes_of(uint64_t seed, int64_t glyph) {
  Dice dice(seed, static_cast<uint64_t>(glyph) << 24);
  std::vector<Curve> curves = some_strokes(dice);
  for (int tries = 0; tries < 8 && !spreads(curves); ++tries) curves = some_strokes(dice);
  return curves;
}

/// One image's way of moving what the class says.
struct Hand {
  double cos_turn, sin_turn, shear, scale_x, scale_y, shift_x, shift_y;

  explicit Hand(Dice& dice) {
    const double turn = dice.normal() * 0.16;
    cos_turn = std::cos(turn);
    sin_turn = std::sin(turn);
    shear = dice.normal() * 0.12;
    const double scale = dice.uniform(0.8, 1.15);
    scale_x = scale * dice.uniform(0.88, 1.12);
    scale_y = scale * dice.uniform(0.88, 1.12);
    shift_x = dice.normal() * 0.05;
    shift_y = dice.normal() * 0.05;
  }
  Point operator()(Point p) const {
    const double x = (p.x - 0.5) * scale_x + shear * (p.y - 0.5), y = (p.y - 0.5) * scale_y;
    return {0.5 + cos_turn * x - sin_turn * y + shift_x, 0.5 + sin_turn * x + cos_turn * y + shift_y};
  }
};

/// How much ink each pixel has, 0 to 1.
class Canvas {
 public:
  explicit Canvas(int64_t size) : size_(size), ink_(static_cast<size_t>(size * size), 0.0f) {}

  void stroke(const Curve& curve, double thickness) {
    constexpr int kSegments = 16;
    Point last = curve[0];
    for (int i = 1; i <= kSegments; ++i) {
      const double t = static_cast<double>(i) / kSegments, u = 1 - t;
      const double w0 = u * u * u, w1 = 3 * u * u * t, w2 = 3 * u * t * t, w3 = t * t * t;
      const Point next{w0 * curve[0].x + w1 * curve[1].x + w2 * curve[2].x + w3 * curve[3].x,
                       w0 * curve[0].y + w1 * curve[1].y + w2 * curve[2].y + w3 * curve[3].y};
      segment(last, next, thickness / 2);
      last = next;
    }
  }

  float ink(int64_t i) const { return ink_[static_cast<size_t>(i)]; }

 private:
  /// Coverage falls from 1 to 0 over the pixel at the stroke's edge.
  void segment(Point a, Point b, double radius) {
    const double n = static_cast<double>(size_), reach = radius + 1 / n;
    const auto cell = [&](double v) {
      return std::clamp<int64_t>(static_cast<int64_t>(std::floor(v * n)), 0, size_ - 1);
    };
    const int64_t x0 = cell(std::min(a.x, b.x) - reach), x1 = cell(std::max(a.x, b.x) + reach);
    const int64_t y0 = cell(std::min(a.y, b.y) - reach), y1 = cell(std::max(a.y, b.y) + reach);
    const Point d{b.x - a.x, b.y - a.y};
    const double length2 = std::max(d.x * d.x + d.y * d.y, 1e-12);
    for (int64_t y = y0; y <= y1; ++y) {
      for (int64_t x = x0; x <= x1; ++x) {
        const Point p{(static_cast<double>(x) + 0.5) / n, (static_cast<double>(y) + 0.5) / n};
        const double t = std::clamp(((p.x - a.x) * d.x + (p.y - a.y) * d.y) / length2, 0.0, 1.0);
        const double away = distance(p, {a.x + t * d.x, a.y + t * d.y});
        const auto cover = static_cast<float>(std::clamp((radius - away) * n + 0.5, 0.0, 1.0));
        float& ink = ink_[static_cast<size_t>(y * size_ + x)];
        ink = std::max(ink, cover);
      }
    }
  }

  int64_t size_;
  std::vector<float> ink_;
};

/// Paper and ink of an image, and the noise of its camera.
Pixels develop(const Canvas& canvas, const GlyphStyle& style, Dice& dice) {
  std::array<double, 3> paper{}, ink{};
  const double light = dice.uniform(0.65, 1.0), dark = dice.uniform(0.0, 0.35), noise = dice.uniform(0.01, 0.06);
  for (size_t c = 0; c < 3; ++c) {
    paper[c] = style.channels == 1 ? light : std::clamp(light + dice.uniform(-0.15, 0.15), 0.0, 1.0);
    ink[c] = style.channels == 1 ? dark : std::clamp(dark + dice.uniform(-0.15, 0.25), 0.0, 1.0);
  }
  Pixels pixels{style.size, style.size, style.channels, {}};
  pixels.bytes.resize(static_cast<size_t>(style.size * style.size * style.channels));
  for (int64_t i = 0; i < style.size * style.size; ++i) {
    const double covered = canvas.ink(i), grain = noise * dice.normal();
    for (int64_t c = 0; c < style.channels; ++c) {
      const auto k = static_cast<size_t>(c);
      const double value = paper[k] + covered * (ink[k] - paper[k]) + grain;
      pixels.bytes[static_cast<size_t>(i * style.channels + c)] =
          static_cast<uint8_t>(std::lround(255 * std::clamp(value, 0.0, 1.0)));
    }
  }
  return pixels;
}

}  // namespace

Pixels draw_glyph(const GlyphStyle& style, int64_t glyph, int64_t image) {
  // Stream 0 of a glyph is the class itself; its images follow.
  Dice dice(style.seed, static_cast<uint64_t>(glyph) << 24 | static_cast<uint64_t>(image + 1));
  const Hand hand(dice);
  const double thickness = dice.uniform(0.045, 0.09);
  Canvas canvas(style.size);
  for (Curve curve : strokes_of(style.seed, glyph)) {
    for (Point& p : curve) p = hand({p.x + 0.022 * dice.normal(), p.y + 0.022 * dice.normal()});
    canvas.stroke(curve, thickness);
  }
  return develop(canvas, style, dice);
}

}  // namespace plsc
