// The stand-in for cuBLASLt ends a test that breaks the documentation's rules: one case each.
#include <cublasLt.h>

#include "standin_test.h"

using namespace plsc::standin;

namespace {

/// A right product of fp32, D (8, 8) = A (8, 128) B (128, 8), column by column. The tests break one thing of it.
struct RightProduct {
  TestMachine machine;
  Stream stream;
  DeviceArray<float> a{8 * 128}, b{128 * 8}, d{64}, workspace{4096};
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t la = nullptr, lb = nullptr, ld = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  std::array<cublasLtMatmulHeuristicResult_t, 4> found{};
  int count = 0;
  float alpha = 1, beta = 0;

  explicit RightProduct(cublasComputeType_t compute = CUBLAS_COMPUTE_32F) {
    cublasLtCreate(&handle);
    cublasLtMatmulDescCreate(&product, compute, CUDA_R_32F);
    cublasLtMatrixLayoutCreate(&la, CUDA_R_32F, 8, 128, 8);
    cublasLtMatrixLayoutCreate(&lb, CUDA_R_32F, 128, 8, 128);
    cublasLtMatrixLayoutCreate(&ld, CUDA_R_32F, 8, 8, 8);
    cublasLtMatmulPreferenceCreate(&preference);
    const uint64_t bytes = workspace.bytes();
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
    a.write(std::vector<float>(8 * 128, 1.0f));
    b.write(std::vector<float>(8 * 128, 0.5f));
  }
  ~RightProduct() {
    cublasLtMatmulPreferenceDestroy(preference);
    for (cublasLtMatrixLayout_t layout : {la, lb, ld}) cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulDescDestroy(product);
    cublasLtDestroy(handle);
  }
  void ask() { cublasLtMatmulAlgoGetHeuristic(handle, product, la, lb, ld, ld, preference, 4, found.data(), &count); }
  /// The algorithm that wants aligned memory and workspace.
  const cublasLtMatmulHeuristicResult_t& best() const { return found[1]; }

  struct Given {
    const float *a, *b;
    float* d;
    void* workspace;
    size_t bytes;
  };
  Given right() const { return {a.get(), b.get(), d.get(), workspace.get(), workspace.bytes()}; }
  void run(const Given& g) {
    cublasLtMatmul(handle, product, &alpha, g.a, la, g.b, lb, &beta, g.d, ld, g.d, ld, &best().algo, g.workspace,
                   g.bytes, stream);
    stream.wait();
  }
  void relayout(cublasLtMatrixLayout_t& layout, cudaDataType_t type, uint64_t rows, uint64_t columns, int64_t lead) {
    cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatrixLayoutCreate(&layout, type, rows, columns, lead);
  }
};

}  // namespace

TEST_CASE("stand-in cuBLASLt: a right product") {
  RightProduct p;
  p.ask();
  REQUIRE(p.count == 3);
  CHECK(p.found[0].state == CUBLAS_STATUS_NOT_SUPPORTED);
  CHECK(p.best().workspaceSize > 0);
  p.run(p.right());
  CHECK(p.d.read() == std::vector<float>(64, 64.0f));
}

TEST_CASE("stand-in cuBLASLt: memory that is wrong") {
  RightProduct p;
  p.ask();
  auto given = p.right();
  std::vector<float> host(1024);
  SECTION("on the host") { given.a = host.data(); }
  SECTION("too short") { given.b = p.d.get(); }
  SECTION("not aligned as was said") { given.a += 1; }
  SECTION("the output over an input") { given.d = const_cast<float*>(given.a); }
  SECTION("less workspace than the algorithm wants") { given.bytes = p.best().workspaceSize - 1; }
  SECTION("workspace on the host") { given.workspace = host.data(); }
  SECTION("workspace over an input") { given.workspace = const_cast<float*>(given.a); }
  SECTION("no workspace") { given.workspace = nullptr; }
  CHECK_THROWS_AS(p.run(given), Misuse);
}

TEST_CASE("stand-in cuBLASLt: descriptors that do not fit") {
  RightProduct p;
  SECTION("inner sizes") { p.relayout(p.lb, CUDA_R_32F, 127, 8, 128); }
  SECTION("outer sizes") { p.relayout(p.ld, CUDA_R_32F, 8, 7, 8); }
  SECTION("a leading dimension below the rows") { p.relayout(p.la, CUDA_R_32F, 8, 128, 7); }
  SECTION("no rows") { p.relayout(p.la, CUDA_R_32F, 0, 128, 8); }
  SECTION("factors of two types") { p.relayout(p.lb, CUDA_R_16BF, 128, 8, 128); }
  SECTION("a 16-bit output of fp32") { p.relayout(p.ld, CUDA_R_16F, 8, 8, 8); }
  SECTION("a type that is not played") { p.relayout(p.la, CUDA_R_64F, 8, 128, 8); }
  CHECK_THROWS_AS(p.ask(), Misuse);
}

TEST_CASE("stand-in cuBLASLt: TF32 is for fp32") {
  RightProduct p(CUBLAS_COMPUTE_32F_FAST_TF32);
  p.relayout(p.la, CUDA_R_16F, 8, 128, 8);
  p.relayout(p.lb, CUDA_R_16F, 128, 8, 128);
  CHECK_THROWS_AS(p.ask(), Misuse);
}

TEST_CASE("stand-in cuBLASLt: an algorithm belongs to what it was asked for") {
  RightProduct p;
  p.ask();
  SECTION("another shape") {
    p.relayout(p.la, CUDA_R_32F, 8, 64, 8);
    p.relayout(p.lb, CUDA_R_32F, 64, 8, 64);
  }
  SECTION("another leading dimension") { p.relayout(p.lb, CUDA_R_32F, 128, 8, 144); }
  SECTION("the one that was refused") { p.found[1] = p.found[0]; }
  CHECK_THROWS_AS(p.run(p.right()), Misuse);
}

TEST_CASE("stand-in cuBLASLt: scalars and streams") {
  RightProduct p;
  p.ask();
  const auto g = p.right();
  const auto run = [&](const void* alpha, cudaStream_t stream) {
    cublasLtMatmul(p.handle, p.product, alpha, g.a, p.la, g.b, p.lb, &p.beta, g.d, p.ld, g.d, p.ld, &p.best().algo,
                   g.workspace, g.bytes, stream);
  };
  CHECK_THROWS_AS(run(&p.alpha, nullptr), Misuse);
  CHECK_THROWS_AS(run(p.a.get(), p.stream), Misuse);
  CHECK_THROWS_AS(run(nullptr, p.stream), Misuse);
}

TEST_CASE("stand-in cuBLASLt: attributes have sizes") {
  RightProduct p;
  const int64_t wide = CUBLAS_OP_T;
  CHECK_THROWS_AS(cublasLtMatmulDescSetAttribute(p.product, CUBLASLT_MATMUL_DESC_TRANSA, &wide, sizeof wide), Misuse);
  const uint32_t odd = 12;
  CHECK_THROWS_AS(
      cublasLtMatmulPreferenceSetAttribute(p.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &odd, sizeof odd),
      Misuse);
}
