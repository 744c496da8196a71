// What evaluation writes: .npy files and the picture of the ROC.

#include "data/decode.h"
#include "eval/evaluator.h"
#include "eval/npy.h"
#include "support/catch.h"
#include "support/error_text.h"
#include "support/npy.h"
#include "support/temp_folder.h"

using namespace plsc;
using namespace plsc::test;

namespace {

EvalResult curve(const std::string& name, double power) {
  EvalResult r;
  r.set = name;
  r.accuracy = 0.9561;
  r.accuracy_std = 0.0041;
  r.auc = 1 / (1 + power);
  for (int i = 0; i <= 3000; ++i) {
    r.roc_far.push_back(i / 3000.0);
    r.roc_tar.push_back(std::pow(std::max(i, 1) / 3000.0, power));
  }
  return r;
}

// Pixels of a colour, give or take the smoothing.
int64_t count_colour(const Pixels& p, int red, int green, int blue) {
  int64_t n = 0;
  for (size_t i = 0; i < p.bytes.size(); i += 3) {
    n += std::abs(p.bytes[i] - red) + std::abs(p.bytes[i + 1] - green) + std::abs(p.bytes[i + 2] - blue) < 12;
  }
  return n;
}

Pixels read_picture(const std::string& path) {
  const std::string bytes = slurp(path);
  return decode_pixels({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, 3, path);
}

}  // namespace

TEST_CASE(".npy: appended rows are read back, and nothing appears before the end") {
  const TempFolder temp;
  const std::string path = temp / "e.npy";
  for (const Shape shape : {Shape{5, 3}, Shape{0, 3}, Shape{4}}) {
    NpyWriter writer(path, shape);
    std::vector<float> values;
    for (int64_t i = 0; i < shape.elements(); ++i) values.push_back(static_cast<float>(i) / 7);
    const Tensor all = Tensor::from(values, shape);
    for (int64_t at = 0; at < shape[0]; at += 2) writer.append(all.rows(at, std::min<int64_t>(2, shape[0] - at)));
    CHECK_FALSE(std::filesystem::exists(path));
    writer.finish();
    const Tensor found = read_npy(path);
    CHECK(found.shape() == shape);
    CHECK(found.values<float>() == values);
    CHECK(slurp(path).find('\n') % 64 == 63);  // the data are aligned
    std::filesystem::remove(path);
  }
  { const NpyWriter given_up(path, Shape{2, 2}); }
  CHECK(std::filesystem::is_empty(temp.path()));
  CHECK_FALSE(error_text([] { NpyWriter("/nowhere/e.npy", Shape{1}); }).empty());
}

TEST_CASE("the ROC picture holds every curve in its colour") {
  const TempFolder temp;
  const std::string path = temp / "roc.png";
  draw_roc(path, {EvalResult{}});
  CHECK_FALSE(std::filesystem::exists(path));  // nothing to draw
  draw_roc(path, {curve("first", 0.02)});
  Pixels p = read_picture(path);
  CHECK(p.width == 960);
  CHECK(p.height == 720);
  CHECK(count_colour(p, 0, 114, 178) > 800);
  CHECK(count_colour(p, 213, 94, 0) == 0);
  draw_roc(path, {curve("first", 0.02), EvalResult{}, curve("another set with a long name", 0.05)});
  p = read_picture(path);
  CHECK(count_colour(p, 0, 114, 178) > 800);
  CHECK(count_colour(p, 213, 94, 0) > 800);
}
