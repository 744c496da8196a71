// Input images on the stand-in: the cases of every backend, and batches that are sent while the device works on others.
#include "backend/cuda/image_ops_cuda.h"

#include <cstring>

#include "device_test.h"
#include "parity/backend/cases.h"
#include "parity/backend/values.h"
#include "support/error_text.h"

namespace plsc::test {
namespace {

struct ImagesUnderTest {
  explicit ImagesUnderTest(uint64_t seed = 1) : machine(seed) {
    auto made = std::make_unique<CudaDevice>(CudaOptions{});
    device = made.get();
    backend.device = std::move(made);
    backend.image = make_cuda_image_ops(*device);
  }
  standin::TestMachine machine;
  CudaDevice* device;
  Backend backend;
};

uint8_t pixel(int64_t batch, int64_t i) { return static_cast<uint8_t>((i * 31 + batch * 101) % 251); }

/// Images of one row, so that mirrored ones are easy to tell.
ImageNormalize row_images(CudaDevice& device, const Tensor& bytes, const Tensor& flip) {
  ImageNormalize args;
  args.bytes = bytes;
  args.flip = flip;
  args.mean = {1, 2, 3};
  args.std = {2, 4, 8};
  args.y = garbage(device, bytes.shape());
  return args;
}

Values expected_rows(int64_t batch, const Shape& shape, const std::vector<uint8_t>& flips) {
  Values expected(static_cast<size_t>(shape.elements()));
  const int64_t width = shape[2], channels = shape[3];
  for (int64_t i = 0; i < shape.elements(); ++i) {
    const int64_t c = i % channels, w = i / channels % width, image = i / channels / width;
    const int64_t from = flips[static_cast<size_t>(image)] ? width - 1 - w : w;
    const double byte = pixel(batch, (image * width + from) * channels + c);
    expected[static_cast<size_t>(i)] = (byte - static_cast<double>(c + 1)) / static_cast<double>(2 << c);
  }
  return expected;
}

}  // namespace

TEST_CASE("images on the stand-in: the cases of every backend") {
  ImagesUnderTest test;
  const Dtype dtype = GENERATE(Dtype::f32, Dtype::bf16, Dtype::f16);
  image_cases(test.backend, dtype);
}

TEST_CASE("images on the stand-in: batches in host memory that change at once, many on their way") {
  for (uint64_t seed = 1; seed <= 15; ++seed) {
    ImagesUnderTest test(seed);
    std::vector<Tensor> results;
    std::vector<Shape> shapes;
    for (int64_t batch = 0; batch < 12; ++batch) {
      const Shape shape{3 + batch % 5, 1, 24, 3};  // of sizes that grow and shrink
      Tensor bytes(host_allocator(), shape, Dtype::u8);
      for (int64_t i = 0; i < shape.elements(); ++i) bytes.data<uint8_t>()[i] = pixel(batch, i);
      std::vector<uint8_t> flips(static_cast<size_t>(shape[0]));
      for (size_t i = 0; i < flips.size(); ++i) flips[i] = i % 2;
      Tensor flip = Tensor::from(flips, {shape[0]});
      const ImageNormalize args = row_images(*test.device, bytes, flip);
      // The device falls behind, so that uploads run ahead of it.
      standin::enqueue_polled(test.device->compute_stream(), "slow",
                              [turns = 40 * seed % 200]() mutable { return turns-- == 0; });
      test.backend.image->normalize(args);
      std::memset(bytes.raw(), 7, bytes.bytes());
      std::memset(flip.raw(), 0, flip.bytes());
      results.push_back(args.y);
      shapes.push_back(shape);
      // Somebody's memory in between, as a training step has it.
      const Tensor passing = test.device->zeros({1000});
    }
    for (int64_t batch = 0; batch < 12; ++batch) {
      INFO("seed " << seed << ", batch " << batch);
      const auto i = static_cast<size_t>(batch);
      std::vector<uint8_t> flips(static_cast<size_t>(shapes[i][0]));
      for (size_t k = 0; k < flips.size(); ++k) flips[k] = k % 2;
      require_close(test::download(*test.device, results[i]), expected_rows(batch, shapes[i], flips), 2e-7, 1e-9);
    }
  }
}

TEST_CASE("images on the stand-in: a batch is sent while the device is still held up") {
  ImagesUnderTest test;
  const Shape shape{2, 1, 24, 3};
  Tensor bytes(host_allocator(), shape, Dtype::u8);
  for (int64_t i = 0; i < shape.elements(); ++i) bytes.data<uint8_t>()[i] = pixel(0, i);
  // Both places are there, and their readers are done.
  for (int i = 0; i < 2; ++i) test.backend.image->normalize(row_images(*test.device, bytes, {}));
  const ImageNormalize args = row_images(*test.device, bytes, {});
  test.device->synchronize();
  bool go = false, sent = false;
  standin::enqueue_polled(test.device->compute_stream(), "held up", [&go] { return go; });
  test.backend.image->normalize(args);
  standin::enqueue(test.device->copy_stream(), "sent", [&sent] { sent = true; });
  REQUIRE(cudaStreamSynchronize(test.device->copy_stream()) == cudaSuccess);  // would not end behind the compute stream
  CHECK(sent);
  go = true;
  require_close(test::download(*test.device, args.y), expected_rows(0, shape, {0, 0}), 2e-7, 1e-9);
}

TEST_CASE("images on the stand-in: what no caller may give") {
  ImagesUnderTest test;
  const Tensor bytes(host_allocator(), {2, 3, 4, 5}, Dtype::u8);
  CHECK_THROWS_AS(test.backend.image->normalize(row_images(*test.device, bytes, {})), LogicError);
  const Tensor grey(host_allocator(), {2, 3, 4, 1}, Dtype::u8);
  CHECK_THROWS_AS(test.backend.image->normalize(row_images(*test.device, grey, Tensor::from<uint8_t>({0, 1, 0}, {3}))),
                  LogicError);
  CHECK_THROWS_AS(test.backend.image->normalize(row_images(*test.device, grey, test.device->tensor({2}, Dtype::u8))),
                  LogicError);
}

}  // namespace plsc::test
