// cuBLASLt sees matrices column by column: a row-major (r, c) matrix is its column-major (c, r) transpose. So
// C = A B is given as C^T = B^T A^T: the operands change places, and each keeps its own transposition flag.
#include "backend/cuda/gemm.h"

#include <algorithm>
#include <bit>

namespace plsc {
namespace {

/// Rows and columns as stored, row-major.
struct Stored {
  int64_t rows, columns, ld;
};

Stored stored(int64_t rows, int64_t columns, bool transposed, int64_t ld) {
  if (transposed) std::swap(rows, columns);
  return {rows, columns, ld ? ld : columns};
}

cudaDataType_t data_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return CUDA_R_32F;
    case Dtype::bf16:
      return CUDA_R_16BF;
    case Dtype::f16:
      return CUDA_R_16F;
    default:
      PLSC_CHECK(false, "a matrix product of {}", dtype_name(dtype));
      return CUDA_R_32F;
  }
}

void check_spec(const GemmSpec& s) {
  PLSC_CHECK(s.m >= 0 && s.n >= 0 && s.k >= 0, "a matrix product of ({}, {}) by ({}, {})", s.m, s.k, s.k, s.n);
  PLSC_CHECK(s.out == Dtype::f32 || s.out == s.in, "a matrix product of {} into {}", dtype_name(s.in),
             dtype_name(s.out));
  const auto fits = [](const Stored& matrix) { return matrix.ld >= matrix.columns; };
  PLSC_CHECK(fits(stored(s.m, s.k, s.transpose_a, s.lda)) && fits(stored(s.k, s.n, s.transpose_b, s.ldb)),
             "a matrix product's rows overlap: lda {}, ldb {}", s.lda, s.ldb);
  PLSC_CHECK(s.ldc == 0 || s.ldc >= s.n, "a matrix product's rows overlap: ldc {} of {}", s.ldc, s.n);
}

cublasLtMatrixLayout_t new_layout(Dtype dtype, const Stored& matrix) {
  cublasLtMatrixLayout_t layout = nullptr;
  check(cublasLtMatrixLayoutCreate(&layout, data_type(dtype), static_cast<uint64_t>(matrix.columns),
                                   static_cast<uint64_t>(matrix.rows), matrix.ld),
        "cublasLtMatrixLayoutCreate");
  return layout;
}

template <class T>
void set(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  check(cublasLtMatmulDescSetAttribute(product, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
}
template <class T>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
  check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value),
        "cublasLtMatmulPreferenceSetAttribute");
}

cublasLtMatmulDesc_t new_product(const GemmSpec& s, bool tf32) {
  const bool fast = tf32 && s.in == Dtype::f32;
  cublasLtMatmulDesc_t product = nullptr;
  check(cublasLtMatmulDescCreate(&product, fast ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  return product;
}

/// The largest power of two that divides the address, up to what the library ever asks about.
uint32_t alignment_of(const void* p) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  return address == 0 ? 256u : std::min(256u, 1u << std::min(std::countr_zero(address), 8));
}

}  // namespace

Gemm::Gemm(const CudaRuntime& runtime, const GemmSpec& s, const GemmAlignment& alignment)
    : product_(new_product(s, runtime.options.tf32)),
      a_(new_layout(s.in, stored(s.m, s.k, s.transpose_a, s.lda))),
      b_(new_layout(s.in, stored(s.k, s.n, s.transpose_b, s.ldb))),
      c_(new_layout(s.out, stored(s.m, s.n, false, s.ldc))) {
  const auto operation = [](bool transpose) { return static_cast<int32_t>(transpose ? CUBLAS_OP_T : CUBLAS_OP_N); };
  set(product_.get(), CUBLASLT_MATMUL_DESC_TRANSA, operation(s.transpose_b));
  set(product_.get(), CUBLASLT_MATMUL_DESC_TRANSB, operation(s.transpose_a));

  cublasLtMatmulPreference_t raw = nullptr;
  check(cublasLtMatmulPreferenceCreate(&raw), "cublasLtMatmulPreferenceCreate");
  const VendorPtr<cublasLtMatmulPreferenceOpaque_t, cublasLtMatmulPreferenceDestroy> preference(raw);
  set(raw, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kProductWorkspace));
  set(raw, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment[1]);
  set(raw, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment[0]);
  set(raw, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment[2]);
  set(raw, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment[2]);
  // Where k is split, its parts are added in fp32, not in a 16-bit output.
  if (s.out != Dtype::f32) {
    set(raw, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  }

  std::array<cublasLtMatmulHeuristicResult_t, 4> found{};
  int count = 0;
  check(cublasLtMatmulAlgoGetHeuristic(runtime.blas.get(), product_.get(), b_.get(), a_.get(), c_.get(), c_.get(), raw,
                                       static_cast<int>(found.size()), found.data(), &count),
        "cublasLtMatmulAlgoGetHeuristic");
  const auto end = found.begin() + count;
  const auto best = std::find_if(found.begin(), end, [](const auto& f) { return f.state == CUBLAS_STATUS_SUCCESS; });
  if (best == end) {
    fail("cuBLASLt has no algorithm for a product of {} ({}, {}) by ({}, {})", dtype_name(s.in), s.m, s.k, s.k, s.n);
  }
  algorithm_ = best->algo;
  workspace_bytes_ = best->workspaceSize;
}

void Gemm::run(const CudaRuntime& runtime, const GemmOperands& o, void* workspace, cudaStream_t stream) const {
  check(
      cublasLtMatmul(runtime.blas.get(), product_.get(), &o.alpha, o.b, b_.get(), o.a, a_.get(), &o.beta, o.c, c_.get(),
                     o.c, c_.get(), &algorithm_, workspace_bytes_ ? workspace : nullptr, workspace_bytes_, stream),
      "cublasLtMatmul");
}

void GemmCache::run(const GemmSpec& spec, const GemmOperands& operands) {
  check_spec(spec);
  if (spec.m == 0 || spec.n == 0) return;
  if (spec.k == 0) return scale_alone(spec, operands);
  const Gemm& gemm = plan({spec, {alignment_of(operands.a), alignment_of(operands.b), alignment_of(operands.c)}});
  if (gemm.workspace_bytes() > 0 && !workspace_.defined()) {
    const MemoryScope use(runtime_.device, MemoryUse::workspace);
    workspace_ = runtime_.device.tensor({static_cast<int64_t>(kProductWorkspace)}, Dtype::u8);
  }
  gemm.run(runtime_, operands, workspace_.raw(), stream_);
}

const Gemm& GemmCache::plan(const Key& key) {
  const auto known = index_.find(key);
  if (known != index_.end()) {
    plans_.splice(plans_.begin(), plans_, known->second);
    return plans_.front().plan;
  }
  plans_.push_front({key, Gemm(runtime_, key.spec, key.alignment)});
  index_[key] = plans_.begin();
  ++plans_made_;
  if (plans_.size() > capacity_) {
    index_.erase(plans_.back().key);
    plans_.pop_back();
  }
  return plans_.front().plan;
}

/// C = beta C: what is left of a product whose sum has no terms.
void GemmCache::scale_alone(const GemmSpec& spec, const GemmOperands& operands) const {
  PLSC_CHECK(operands.beta == 0 || operands.beta == 1, "an empty product with beta {}", operands.beta);
  if (operands.beta == 1) return;
  const size_t row = static_cast<size_t>(spec.n) * dtype_size(spec.out);
  const size_t pitch = static_cast<size_t>(spec.ldc ? spec.ldc : spec.n) * dtype_size(spec.out);
  auto* c = static_cast<std::byte*>(operands.c);
  if (pitch == row) {
    check(cudaMemsetAsync(c, 0, row * static_cast<size_t>(spec.m), stream_), "cudaMemsetAsync");
    return;
  }
  for (int64_t i = 0; i < spec.m; ++i) {
    check(cudaMemsetAsync(c + static_cast<size_t>(i) * pitch, 0, row, stream_), "cudaMemsetAsync");
  }
}

}  // namespace plsc
