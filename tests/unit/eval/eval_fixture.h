// A network, a head and images for tests of evaluation: what they answer is known from the pixels.
#pragma once
#include <atomic>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "data/decode.h"
#include "data/encode.h"
#include "eval/embed.h"
#include "support/fake_device.h"

namespace plsc::test {

/// Plain normalisation on host memory.
class PlainImageOps final : public ImageOps {
 public:
  void normalize(const ImageNormalize& a) override {
    const int64_t n = a.bytes.dim(0), h = a.bytes.dim(1), w = a.bytes.dim(2), c = a.bytes.dim(3);
    Tensor y = a.y;
    for (int64_t i = 0; i < n; ++i) {
      const bool mirrored = a.flip.defined() && a.flip.data<uint8_t>()[i] != 0;
      for (int64_t r = 0; r < h; ++r) {
        for (int64_t x = 0; x < w; ++x) {
          for (int64_t k = 0; k < c; ++k) {
            const int64_t from = ((i * h + r) * w + (mirrored ? w - 1 - x : x)) * c + k;
            y.data<float>()[((i * h + r) * w + x) * c + k] =
                (static_cast<float>(a.bytes.data<uint8_t>()[from]) - a.mean[static_cast<size_t>(k)]) /
                a.std[static_cast<size_t>(k)];
          }
        }
      }
    }
  }
};

/// Embedding = (f, l, f f / 100 + m s, m b) with f and l the first and last pixel of the first row, s the sum of f over
/// the batch, b its size and m `mixing`: other than 0, an image's embedding tells which others were in its batch.
class PixelNet final : public Backbone {
 public:
  explicit PixelNet(float mixing = 0) : mixing_(mixing) {}
  Tensor forward(Context& context, const Tensor& x, Mode mode, const StepInfo&) override {
    PLSC_CHECK(mode == Mode::eval);
    const int64_t n = x.dim(0), row = x.dim(1) * x.dim(2) * x.dim(3), last = (x.dim(2) - 1) * x.dim(3);
    Tensor e = context.device().tensor(Shape{n, 4});
    float sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += x.data<float>()[i * row];
    for (int64_t i = 0; i < n; ++i) {
      float* out = e.data<float>() + i * 4;
      out[0] = x.data<float>()[i * row];
      out[1] = x.data<float>()[i * row + last];
      out[2] = out[0] * out[0] / 100 + mixing_ * sum;
      out[3] = mixing_ * static_cast<float>(n);
    }
    images += n;
    return e;
  }
  Tensor backward(Context&, const Tensor&) override { return {}; }
  void visit(ParamVisitor&) override {}
  int64_t embedding_size() const override { return 4; }
  void init(Context&, const std::function<bool(const Param&)>&) override {}
  std::string description() const override { return "pixels"; }
  std::vector<std::string> parts() const override { return {}; }
  void freeze(const std::vector<std::string>&) override {}
  void require_batch(const Context&, int64_t) const override {}

  int64_t images = 0;  // that went through

 private:
  float mixing_;
};

/// Image i: 4 x 6 grey pixels, the first pixel and the end of the first row as given, zero elsewhere.
class PixelSource final : public DataSource {
 public:
  struct Image {
    uint8_t first = 0, last = 0;
    int64_t label = -1;
  };
  explicit PixelSource(std::vector<Image> images) : images_(std::move(images)) {}
  int64_t size() const override { return static_cast<int64_t>(images_.size()); }
  RawSample read(int64_t i) const override {
    if (broken.count(i) != 0) fail("{}: damaged", name(i));
    RawSample s;
    s.encoded = encoded(images_[static_cast<size_t>(i)]);
    s.where = name(i);
    return s;
  }
  int64_t label(int64_t i) const override { return images_[static_cast<size_t>(i)].label; }
  int64_t classes() const override { return 0; }
  const std::vector<std::string>& class_names() const override { return names_; }
  std::string name(int64_t i) const override { return "image " + std::to_string(i); }
  std::string description() const override { return "pixels"; }

  static std::vector<uint8_t> encoded(const Image& image) {
    Pixels p{4, 6, 1, std::vector<uint8_t>(24)};
    p.bytes[0] = image.first;
    p.bytes[5] = image.last;
    return encode_png(p);
  }

  std::map<int64_t, bool> broken;

 private:
  std::vector<Image> images_;
  std::vector<std::string> names_;
};

inline PixelSource numbered_source(int64_t n) {
  std::vector<PixelSource::Image> images;
  for (int64_t i = 0; i < n; ++i) {
    images.push_back({static_cast<uint8_t>(i % 251), static_cast<uint8_t>(i % 13), i % 7});
  }
  return PixelSource(std::move(images));
}

inline DataConfig pixel_data() {
  DataConfig data;
  data.image_size = {4, 6};
  data.channels = 1;
  data.mean = {0};
  data.std = {1};
  data.workers = 3;
  return data;
}

/// A context whose device can normalise images.
struct EvalContext : FakeContext {
  explicit EvalContext(ThreadRank& self) : FakeContext(self) { backend.image = std::make_unique<PlainImageOps>(); }
};

/// Runs `body(context, rank)` on `ranks` threads.
template <class Body>
void on_ranks(int ranks, Body&& body) {
  run_ranks(ranks, [&](ThreadRank& self) {
    EvalContext fake(self);
    body(fake.context, self.rank);
  });
}

}  // namespace plsc::test
