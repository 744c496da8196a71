// Convolutions as matrix products: where they are chosen, and that they take a large batch in pieces.
#include "backend/cpu/conv_products.h"

#include <cmath>

#include "backend/cpu/cpu_device.h"
#include "support/catch.h"

namespace plsc {
namespace {

ConvSpec spec_of(int64_t batch, int64_t size, int64_t channels, int64_t kernel, int64_t stride, Dtype dtype) {
  return {batch, size, size, channels, channels, kernel, stride, kernel / 2, dtype};
}

Tensor waves(Device& device, const Shape& shape, float frequency) {
  Tensor t = device.tensor(shape);
  for (int64_t i = 0; i < t.elements(); ++i) t.data<float>()[i] = std::sin(frequency * static_cast<float>(i % 100003));
  return t;
}

void require_near(const Tensor& a, const Tensor& b) {
  for (int64_t i = 0; i < a.elements(); ++i) {
    const float x = a.data<float>()[i], y = b.data<float>()[i];
    if (!(std::abs(x - y) <= 1e-5f * std::abs(y) + 1e-2f)) FAIL("element " << i << ": " << x << " and " << y);
  }
}

}  // namespace

TEST_CASE("matrix products are chosen for small images alone") {
  const auto preferred = ConvProducts::preferred;
  const ConvSpec strided = spec_of(32, 14, 512, 3, 2, Dtype::bf16);
  for (ConvPass pass : {ConvPass::forward, ConvPass::data, ConvPass::weight}) {
    CHECK(preferred(strided, pass));
    CHECK_FALSE(preferred(spec_of(32, 56, 64, 3, 1, Dtype::bf16), pass));
    CHECK_FALSE(preferred(spec_of(32, 56, 128, 3, 2, Dtype::bf16), pass));
    CHECK_FALSE(preferred(spec_of(32, 7, 512, 3, 1, Dtype::f32), pass));
    CHECK(preferred(spec_of(128, 4, 256, 3, 2, Dtype::f32), pass));
    // 509 images, a prime, do not fit at once, and one by one a product would be slow.
    CHECK_FALSE(preferred(spec_of(509, 4, 2048, 3, 2, Dtype::bf16), pass));
  }
  CHECK(preferred(spec_of(32, 14, 512, 3, 2, Dtype::f32), ConvPass::weight));
  CHECK_FALSE(preferred(spec_of(32, 14, 512, 3, 2, Dtype::f32), ConvPass::forward));
}

TEST_CASE("a batch that is taken in pieces gives what its halves give") {
  CpuDevice device(2);
  const DnnlRuntime runtime(device, 2);
  // The windows of 256 images are 115 MB, more than are laid out at once.
  const ConvSpec whole{256, 14, 14, 256, 16, 3, 2, 1, Dtype::f32};
  ConvSpec half = whole;
  half.batch = 128;
  ConvProducts all(runtime, whole), part(runtime, half);
  const Tensor x = waves(device, {256, 14, 14, 256}, 0.37f), dy = waves(device, {256, 7, 7, 16}, 0.73f);
  const Tensor w = waves(device, {16, 256, 3, 3}, 0.11f);

  Tensor y = device.tensor(dy.shape()), dx = device.tensor(x.shape()), dw = device.tensor(w.shape());
  all.forward(x, w, y);
  all.backward_data(dy, w, dx);
  all.backward_weight(x, dy, dw, false);
  Tensor y2 = device.tensor(dy.shape()), dx2 = device.tensor(x.shape()), dw2 = device.tensor(w.shape());
  for (int64_t first : {0, 128}) {
    Tensor y_half = y2.rows(first, 128), dx_half = dx2.rows(first, 128);
    part.forward(x.rows(first, 128), w, y_half);
    part.backward_data(dy.rows(first, 128), w, dx_half);
    part.backward_weight(x.rows(first, 128), dy.rows(first, 128), dw2, first > 0);
  }
  // Sums of up to 12,544 products of size 1/2, perhaps in another order: errors of 6e-8 times a few hundred.
  require_near(y, y2);
  require_near(dx, dx2);
  require_near(dw, dw2);
}

}  // namespace plsc
