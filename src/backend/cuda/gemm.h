// Matrix products by cuBLASLt, for matrices that lie row by row. A product is planned once per shape; plans are kept.
#pragma once
#include <array>
#include <compare>
#include <list>
#include <map>

#include "backend/cuda/product_workspace.h"
#include "backend/cuda/vendor_handles.h"

namespace plsc {

/// C = alpha op(A) op(B) + beta C with C (m, n), op(A) (m, k), op(B) (k, n), row-major. A transposed operand is stored
/// as the transpose: A as (k, m), B as (n, k). Inputs are both fp32, bf16 or f16; the output is fp32 or the inputs'
/// type. Products are summed in fp32.
struct GemmSpec {
  int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;
  Dtype in = Dtype::f32, out = Dtype::f32;
  int64_t lda = 0, ldb = 0, ldc = 0;  // elements from one stored row to the next; 0: rows without gaps
  auto operator<=>(const GemmSpec&) const = default;
};

/// Device memory; c overlaps neither a nor b. Where beta is 0, c is only written.
struct GemmOperands {
  const void* a = nullptr;
  const void* b = nullptr;
  void* c = nullptr;
  float alpha = 1, beta = 0;
};

/// What a plan may count on: each operand's address is a multiple of this many bytes.
using GemmAlignment = std::array<uint32_t, 3>;

/// One planned product.
class Gemm {
 public:
  Gemm(const CudaRuntime& runtime, const GemmSpec& spec, const GemmAlignment& alignment);
  /// Queues it on `stream`. `workspace`: at least workspace_bytes() of device memory.
  void run(const CudaRuntime& runtime, const GemmOperands& operands, void* workspace, cudaStream_t stream) const;
  size_t workspace_bytes() const { return workspace_bytes_; }

 private:
  using Layout = VendorPtr<cublasLtMatrixLayoutOpaque_t, cublasLtMatrixLayoutDestroy>;
  VendorPtr<cublasLtMatmulDescOpaque_t, cublasLtMatmulDescDestroy> product_;
  Layout a_, b_, c_;
  cublasLtMatmulAlgo_t algorithm_{};
  size_t workspace_bytes_ = 0;
};

/// Runs products, and keeps the plans of the shapes that were used last. All share one workspace: they run one after
/// another on one stream, which is the runtime's unless another is named.
class GemmCache {
 public:
  /// `capacity`: plans that are kept. The head asks for a new shape with each step's number of active classes.
  explicit GemmCache(const CudaRuntime& runtime, size_t capacity = 256)
      : GemmCache(runtime, capacity, runtime.stream) {}
  GemmCache(const CudaRuntime& runtime, size_t capacity, cudaStream_t stream)
      : runtime_(runtime), capacity_(capacity), stream_(stream) {}

  /// Sizes of 0 are allowed: nothing is done, but for k = 0, whose product is zero.
  void run(const GemmSpec& spec, const GemmOperands& operands);

  size_t plans() const { return plans_.size(); }
  int64_t plans_made() const { return plans_made_; }

 private:
  struct Key {
    GemmSpec spec;
    GemmAlignment alignment;
    auto operator<=>(const Key&) const = default;
  };
  struct Entry {
    Key key;
    Gemm plan;
  };

  const Gemm& plan(const Key& key);
  void scale_alone(const GemmSpec& spec, const GemmOperands& operands) const;

  const CudaRuntime& runtime_;
  size_t capacity_;
  cudaStream_t stream_;
  int64_t plans_made_ = 0;
  Tensor workspace_;        // made at the first use
  std::list<Entry> plans_;  // the last used one first
  std::map<Key, std::list<Entry>::iterator> index_;
};

}  // namespace plsc
