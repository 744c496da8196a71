// The weight gradient as a matrix product: where it is chosen, and that it adds up the pieces of a large batch.
#include "backend/cpu/conv_weight_gemm.h"

#include <cmath>

#include "backend/backend.h"
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

}  // namespace

TEST_CASE("the matrix product is chosen for small images alone") {
  CHECK(ConvWeightGemm::preferred(spec_of(32, 14, 512, 3, 2, Dtype::bf16)));
  CHECK(ConvWeightGemm::preferred(spec_of(32, 7, 512, 3, 1, Dtype::bf16)));
  CHECK(ConvWeightGemm::preferred(spec_of(32, 112, 64, 1, 2, Dtype::bf16)));
  CHECK(ConvWeightGemm::preferred(spec_of(32, 14, 512, 3, 2, Dtype::f32)));
  CHECK_FALSE(ConvWeightGemm::preferred(spec_of(32, 56, 64, 3, 1, Dtype::bf16)));
  CHECK_FALSE(ConvWeightGemm::preferred(spec_of(32, 56, 128, 3, 2, Dtype::bf16)));
  CHECK_FALSE(ConvWeightGemm::preferred(spec_of(32, 7, 512, 3, 1, Dtype::f32)));
  // 509 images, a prime, do not fit at once, and one by one the product would be slow.
  CHECK_FALSE(ConvWeightGemm::preferred(spec_of(509, 14, 512, 3, 2, Dtype::f32)));
}

TEST_CASE("a batch that is taken in pieces has the gradient of its halves together") {
  Backend backend = make_cpu_backend(2);
  Device& device = *backend.device;
  // The windows of 256 images are 115 MB, more than are laid out at once.
  const ConvSpec whole{256, 14, 14, 256, 16, 3, 2, 1, Dtype::f32};
  ConvSpec half = whole;
  half.batch = 128;
  REQUIRE(ConvWeightGemm::preferred(whole));
  const Tensor x = waves(device, {256, 14, 14, 256}, 0.37f), dy = waves(device, {256, 7, 7, 16}, 0.73f);
  Tensor dw = device.tensor({16, 256, 3, 3}), sum = device.tensor({16, 256, 3, 3});
  backend.nn->make_conv(whole)->backward_weight(x, dy, dw, false);
  const auto part = backend.nn->make_conv(half);
  part->backward_weight(x.rows(0, 128), dy.rows(0, 128), sum, false);
  part->backward_weight(x.rows(128, 128), dy.rows(128, 128), sum, true);
  // Sums of 12,544 products of size 1/2 in another order: errors of 6e-8 times a few hundred.
  for (int64_t i = 0; i < dw.elements(); ++i) {
    REQUIRE(dw.data<float>()[i] == test::Approx(sum.data<float>()[i]).epsilon(1e-5).margin(1e-2));
  }
}

}  // namespace plsc
