// The stand-in for cuDNN ends a test that breaks the documentation's rules: one case each.
#include <cudnn.h>

#include "standin_test.h"

using namespace plsc::standin;

namespace {

constexpr auto kForward = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;

/// A right convolution, 2 images of 4 x 4 x 8 to 16 channels by 3 x 3. The tests break one thing of it.
struct RightConvolution {
  TestMachine machine;
  Stream stream;
  DeviceArray<float> x{2 * 4 * 4 * 8}, w{16 * 9 * 8}, y{2 * 4 * 4 * 16}, space{16384};
  cudnnHandle_t handle = nullptr;
  cudnnTensorDescriptor_t dx = nullptr, dy = nullptr;
  cudnnFilterDescriptor_t dw = nullptr;
  cudnnConvolutionDescriptor_t conv = nullptr;
  float alpha = 1, beta = 0;

  RightConvolution() {
    cudnnCreate(&handle);
    cudnnSetStream(handle, stream);
    cudnnCreateTensorDescriptor(&dx);
    cudnnCreateTensorDescriptor(&dy);
    cudnnCreateFilterDescriptor(&dw);
    cudnnCreateConvolutionDescriptor(&conv);
    describe(CUDNN_DATA_FLOAT);
    cudnnSetConvolution2dDescriptor(conv, 1, 1, 1, 1, 1, 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT);
    x.write(std::vector<float>(2 * 4 * 4 * 8, 1.0f));
    w.write(std::vector<float>(16 * 9 * 8, 0.5f));
  }
  ~RightConvolution() {
    cudnnDestroyConvolutionDescriptor(conv);
    cudnnDestroyFilterDescriptor(dw);
    cudnnDestroyTensorDescriptor(dy);
    cudnnDestroyTensorDescriptor(dx);
    cudnnDestroy(handle);
  }
  void describe(cudnnDataType_t type) {
    cudnnSetTensor4dDescriptor(dx, CUDNN_TENSOR_NHWC, type, 2, 8, 4, 4);
    cudnnSetTensor4dDescriptor(dy, CUDNN_TENSOR_NHWC, type, 2, 16, 4, 4);
    cudnnSetFilter4dDescriptor(dw, type, CUDNN_TENSOR_NHWC, 16, 8, 3, 3);
  }
  std::vector<cudnnConvolutionFwdAlgoPerf_t> ask() {
    std::vector<cudnnConvolutionFwdAlgoPerf_t> results(16);
    int count = 0;
    cudnnGetConvolutionForwardAlgorithm_v7(handle, dx, dw, conv, dy, 16, &count, results.data());
    results.resize(static_cast<size_t>(count));
    return results;
  }
  struct Given {
    const void *x, *w;
    void *y, *space;
    size_t bytes;
  };
  Given right() const { return {x.get(), w.get(), y.get(), space.get(), space.bytes()}; }
  void run(const Given& g, cudnnConvolutionFwdAlgo_t algorithm = kForward) {
    cudnnConvolutionForward(handle, &alpha, dx, g.x, dw, g.w, conv, algorithm, g.space, g.bytes, &beta, dy, g.y);
    stream.wait();
  }
};

}  // namespace

TEST_CASE("stand-in cuDNN: a right convolution") {
  RightConvolution c;
  const auto answers = c.ask();
  CHECK(answers.size() > 2);
  CHECK(answers.front().status == CUDNN_STATUS_SUCCESS);
  CHECK(answers.back().status == CUDNN_STATUS_NOT_SUPPORTED);
  c.run(c.right());
  CHECK(c.y.read()[0] == 4 * 8 * 0.5f);       // a corner: 4 of 9 places
  CHECK(c.y.read()[5 * 16] == 9 * 8 * 0.5f);  // inside
}

TEST_CASE("stand-in cuDNN: memory that is wrong") {
  RightConvolution c;
  c.ask();
  auto given = c.right();
  std::vector<float> host(1024);
  SECTION("on the host") { given.x = host.data(); }
  SECTION("too short") { given.w = c.x.get(); }
  SECTION("the output over an input") { given.y = const_cast<void*>(given.w); }
  SECTION("less workspace than the algorithm wants") { given.bytes = 9 * 256 - 1; }
  SECTION("no workspace") { given.space = nullptr; }
  SECTION("workspace over an input") { given.space = const_cast<void*>(given.x); }
  CHECK_THROWS_AS(c.run(given), Misuse);
}

TEST_CASE("stand-in cuDNN: 16-bit tensors begin at 16 bytes") {
  RightConvolution c;
  c.describe(CUDNN_DATA_HALF);
  c.ask();
  auto given = c.right();
  c.run(given);
  given.x = static_cast<const std::byte*>(given.x) + 2;
  CHECK_THROWS_AS(c.run(given), Misuse);
}

TEST_CASE("stand-in cuDNN: descriptors that do not fit") {
  RightConvolution c;
  SECTION("an output of another size") {
    cudnnSetTensor4dDescriptor(c.dy, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 2, 16, 4, 3);
  }
  SECTION("an output of other channels") {
    cudnnSetTensor4dDescriptor(c.dy, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 2, 8, 4, 4);
  }
  SECTION("a filter of other channels") {
    cudnnSetFilter4dDescriptor(c.dw, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC, 16, 7, 3, 3);
  }
  SECTION("a filter of another type") {
    cudnnSetFilter4dDescriptor(c.dw, CUDNN_DATA_HALF, CUDNN_TENSOR_NHWC, 16, 8, 3, 3);
  }
  SECTION("a filter that was not set") {
    cudnnDestroyFilterDescriptor(c.dw);
    cudnnCreateFilterDescriptor(&c.dw);
  }
  SECTION("a handle without a stream") { cudnnSetStream(c.handle, nullptr); }
  CHECK_THROWS_AS(c.ask(), Misuse);
}

TEST_CASE("stand-in cuDNN: descriptors that cannot be") {
  RightConvolution c;
  const auto tensor = [&](cudnnTensorFormat_t format, int n) {
    cudnnSetTensor4dDescriptor(c.dx, format, CUDNN_DATA_FLOAT, n, 1024, 64, 64);
  };
  CHECK_THROWS_AS(tensor(CUDNN_TENSOR_NCHW, 1), Misuse);
  CHECK_THROWS_AS(tensor(CUDNN_TENSOR_NHWC, 0), Misuse);
  CHECK_THROWS_AS(tensor(CUDNN_TENSOR_NHWC, 512), Misuse);  // 2^31 elements
  CHECK_THROWS_AS(cudnnSetConvolution2dDescriptor(c.conv, 1, 1, 1, 1, 1, 1, CUDNN_CONVOLUTION, CUDNN_DATA_FLOAT),
                  Misuse);
  CHECK_THROWS_AS(cudnnSetConvolution2dDescriptor(c.conv, 1, 1, 1, 1, 1, 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_HALF),
                  Misuse);
}

TEST_CASE("stand-in cuDNN: algorithms") {
  RightConvolution c;
  // Other tests of this process asked about this very convolution: another padding is new.
  cudnnSetConvolution2dDescriptor(c.conv, 2, 0, 1, 1, 1, 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT);
  cudnnSetTensor4dDescriptor(c.dy, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 2, 16, 6, 2);
  CHECK_THROWS_AS(c.run(c.right()), Misuse);  // that nobody asked for
  c.ask();
  c.run(c.right());
  CHECK_THROWS_AS(c.run(c.right(), CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD), Misuse);  // that NHWC does not have
}

TEST_CASE("stand-in cuDNN: a race is not for a capture, and overwrites its output") {
  RightConvolution c;
  std::array<cudnnConvolutionFwdAlgoPerf_t, 8> results{};
  int count = 0;
  const auto race = [&] {
    cudnnFindConvolutionForwardAlgorithmEx(c.handle, c.dx, c.x.get(), c.dw, c.w.get(), c.conv, c.dy, c.y.get(), 8,
                                           &count, results.data(), c.space.get(), c.space.bytes());
  };
  c.y.write(std::vector<float>(2 * 4 * 4 * 16, 3.0f));
  race();
  CHECK(count > 1);
  CHECK(c.y.read()[0] != 3.0f);
  REQUIRE(cudaStreamBeginCapture(c.stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  CHECK_THROWS_AS(race(), Misuse);
  cudaGraph_t graph = nullptr;
  REQUIRE(cudaStreamEndCapture(c.stream, &graph) == cudaSuccess);
  cudaGraphDestroy(graph);
}
