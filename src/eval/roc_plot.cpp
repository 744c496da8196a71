// ROC curves as a picture: false accept rate on a logarithmic axis, true accept rate on a linear one.
#include <algorithm>
#include <array>
#include <cmath>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "base/error.h"
#include "base/files.h"
#include "data/encode.h"
#include "eval/evaluator.h"

namespace plsc {
namespace {

// Everything is drawn at twice the size and scaled down once: OpenCV's line fonts are legible only so.
constexpr int kScale = 2;
constexpr int kWidth = 960, kHeight = 720;
constexpr int kLeft = 90, kRight = 930, kTop = 60, kBottom = 640;

const cv::Scalar kInk(40, 40, 40), kGrid(225, 225, 225), kFrame(120, 120, 120), kPaper(255, 255, 255);
// Told apart also by those who do not see red or green (Okabe and Ito's palette), RGB.
const std::array<cv::Scalar, 7> kColours{cv::Scalar(0, 114, 178),   cv::Scalar(213, 94, 0),  cv::Scalar(0, 158, 115),
                                         cv::Scalar(204, 121, 167), cv::Scalar(230, 159, 0), cv::Scalar(86, 180, 233),
                                         cv::Scalar(0, 0, 0)};

struct Axes {
  int decades = 1;      // FAR from 10^-decades to 1
  double lowest = 0;    // TAR at the bottom
  double tar_step = 0;  // between grid lines

  double x(double far) const {
    const double share = 1 + std::log10(std::max(far, std::pow(10.0, -decades))) / decades;
    return kLeft + share * (kRight - kLeft);
  }
  double y(double tar) const { return kBottom - (tar - lowest) / (1 - lowest) * (kBottom - kTop); }
};

cv::Point at(double x, double y) {
  return {static_cast<int>(std::lround(x * kScale)), static_cast<int>(std::lround(y * kScale))};
}

enum class Anchor { left, centre, right };

double font_scale(double size) { return size * kScale / 22.0; }  // the font's capitals are about 22 units high

double text_width(const std::string& words, double size) {
  int baseline = 0;
  return cv::getTextSize(words, cv::FONT_HERSHEY_SIMPLEX, font_scale(size), kScale, &baseline).width / double{kScale};
}

void text(cv::Mat& image, double x, double y, const std::string& words, double size, Anchor anchor = Anchor::left) {
  const double width = text_width(words, size);
  const double shift = anchor == Anchor::left ? 0 : anchor == Anchor::centre ? width / 2 : width;
  cv::putText(image, words, at(x - shift, y), cv::FONT_HERSHEY_SIMPLEX, font_scale(size), kInk, kScale, cv::LINE_AA);
}

void line(cv::Mat& image, cv::Point a, cv::Point b, const cv::Scalar& colour, int width) {
  cv::line(image, a, b, colour, width, cv::LINE_AA);
}

Axes choose_axes(const std::vector<const EvalResult*>& curves) {
  double smallest_far = 0.1, smallest_tar = 1;
  for (const EvalResult* r : curves) {
    for (double far : r->roc_far)
      if (far > 0) smallest_far = std::min(smallest_far, far);
    smallest_tar = std::min(smallest_tar, r->roc_tar.front());
  }
  Axes axes;
  axes.decades = std::clamp(static_cast<int>(std::ceil(-std::log10(smallest_far) - 1e-9)), 1, 7);
  for (double step : {0.01, 0.02, 0.05, 0.1}) {
    axes.tar_step = step;
    axes.lowest = std::max(0.0, std::floor((smallest_tar - step / 2) / step + 1e-9) * step);
    if ((1 - axes.lowest) / step <= 10.5) break;
  }
  return axes;
}

void draw_axes(cv::Mat& image, const Axes& axes) {
  for (int d = 0; d <= axes.decades; ++d) {
    const double decade = std::pow(10.0, -d);
    for (int k = 2; d > 0 && k < 10; ++k) {
      line(image, at(axes.x(k * decade), kTop), at(axes.x(k * decade), kBottom), cv::Scalar(242, 242, 242), kScale);
    }
    line(image, at(axes.x(decade), kTop), at(axes.x(decade), kBottom), kGrid, kScale);
    text(image, axes.x(decade), kBottom + 24, d == 0 ? "1" : fmt::format("1e-{}", d), 12, Anchor::centre);
  }
  const int steps = static_cast<int>(std::lround((1 - axes.lowest) / axes.tar_step));
  for (int i = 0; i <= steps; ++i) {
    const double tar = axes.lowest + i * axes.tar_step;
    line(image, at(kLeft, axes.y(tar)), at(kRight, axes.y(tar)), kGrid, kScale);
    text(image, kLeft - 10, axes.y(tar) + 5, fmt::format("{:.{}f}", tar, axes.tar_step < 0.1 ? 2 : 1), 12,
         Anchor::right);
  }
  cv::rectangle(image, at(kLeft, kTop), at(kRight, kBottom), kFrame, kScale, cv::LINE_AA);
  text(image, (kLeft + kRight) / 2.0, kBottom + 56, "false accept rate", 14, Anchor::centre);
  text(image, kLeft, kTop - 20, "true accept rate", 14);
}

// Steps, as the rates are: between two negatives the FAR stays. FAR 0 lies at the left edge.
void draw_curve(cv::Mat& image, const Axes& axes, const EvalResult& r, const cv::Scalar& colour) {
  std::vector<cv::Point> points;
  for (size_t i = 0; i < r.roc_far.size(); ++i) {
    if (i > 0) points.push_back(at(axes.x(r.roc_far[i]), axes.y(r.roc_tar[i - 1])));
    points.push_back(at(axes.x(r.roc_far[i]), axes.y(r.roc_tar[i])));
  }
  cv::polylines(image, points, false, colour, 2 * kScale, cv::LINE_AA);
}

std::string legend_line(const EvalResult& r) {
  const std::string name = r.set.size() <= 24 ? r.set : r.set.substr(0, 23) + "~";
  return fmt::format("{}  {:.2f} +- {:.2f} %, AUC {:.4f}", name, 100 * r.accuracy, 100 * r.accuracy_std, r.auc);
}

// Bottom right, where a good curve is not.
void draw_legend(cv::Mat& image, const std::vector<const EvalResult*>& curves) {
  constexpr double kLine = 22, kSize = 12, kText = 50;  // kText: where the words begin, behind the sample of the line
  double width = 0;
  for (const EvalResult* r : curves) width = std::max(width, kText + text_width(legend_line(*r), kSize) + 12);
  const double height = kLine * static_cast<double>(curves.size()) + 14, left = kRight - width - 12;
  double y = kBottom - height - 12;
  cv::rectangle(image, at(left, y), at(left + width, y + height), kPaper, cv::FILLED);
  cv::rectangle(image, at(left, y), at(left + width, y + height), kFrame, kScale, cv::LINE_AA);
  for (size_t i = 0; i < curves.size(); ++i) {
    y += kLine;
    line(image, at(left + 12, y - 3), at(left + 40, y - 3), kColours[i % kColours.size()], 2 * kScale);
    text(image, left + kText, y + 2, legend_line(*curves[i]), kSize);
  }
}

void write_png(const std::string& path, const cv::Mat& rgb) {
  PLSC_CHECK(rgb.isContinuous() && rgb.type() == CV_8UC3);
  const auto bytes = encode_png({rgb.rows, rgb.cols, 3, {rgb.data, rgb.data + rgb.total() * rgb.elemSize()}});
  write_text_atomically(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

}  // namespace

void draw_roc(const std::string& path, const std::vector<EvalResult>& results) {
  std::vector<const EvalResult*> curves;
  for (const EvalResult& r : results)
    if (!r.roc_far.empty()) curves.push_back(&r);
  if (curves.empty()) return;
  cv::Mat large(kHeight * kScale, kWidth * kScale, CV_8UC3, kPaper);
  const Axes axes = choose_axes(curves);
  draw_axes(large, axes);
  for (size_t i = 0; i < curves.size(); ++i) draw_curve(large, axes, *curves[i], kColours[i % kColours.size()]);
  draw_legend(large, curves);
  cv::Mat image;
  cv::resize(large, image, cv::Size(kWidth, kHeight), 0, 0, cv::INTER_AREA);
  write_png(path, image);
}

}  // namespace plsc
