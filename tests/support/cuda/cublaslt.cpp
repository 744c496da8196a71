// The stand-in for cuBLASLt: the calls that a plain matrix product takes, and no more. D = alpha op(A) op(B) + beta C,
// column by column, summed in double. The heuristic offers an algorithm that wants aligned operands (and workspace
// where k is long) and one that wants nothing; an algorithm works for the very product that it was asked for, as
// described.
#include <cublasLt.h>

#include <array>
#include <cstring>
#include <memory>
#include <tuple>
#include <type_traits>
#include <vector>

#include "elements.h"

struct cublasLtContext {
  bool live = true;
};

namespace plsc::standin {
namespace {

constexpr uint64_t kLayoutMark = 0x4C61796F7574, kProductMark = 0x50726F64756374, kPreferenceMark = 0x50726566;
constexpr uint64_t kAlgorithmMark = 0x416C676F;

struct Layout {
  uint64_t mark = kLayoutMark;
  cudaDataType_t type = CUDA_R_32F;
  uint64_t rows = 0, columns = 0;
  int64_t ld = 0;
};
struct Product {
  uint64_t mark = kProductMark;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  cudaDataType_t scale = CUDA_R_32F;
  int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
};
struct Preference {
  uint64_t mark = kPreferenceMark;
  uint64_t workspace = 0;
  uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_MASK;
  std::array<uint32_t, 4> alignment{256, 256, 256, 256};  // of A, B, C, D
};
struct Algorithm {
  uint64_t mark = kAlgorithmMark;
  uint64_t fingerprint = 0;  // of the product that it was found for
  uint64_t alignment = 0, workspace = 0;
  uint64_t rounds_parts = 0;  // k is cut in two, and the first half's sum is rounded to the output's type
};

/// The libraries' descriptors have public sizes and private contents: these are ours.
template <class Content, class Opaque>
Content content(const char* call, const Opaque* opaque, uint64_t mark) {
  static_assert(sizeof(Content) <= sizeof(Opaque) && std::is_trivially_copyable_v<Content>);
  if (opaque == nullptr) misuse("{}: a descriptor is null", call);
  Content c;
  std::memcpy(static_cast<void*>(&c), opaque, sizeof c);
  if (c.mark != mark) misuse("{}: a descriptor that was not created, or of another kind", call);
  return c;
}
template <class Content, class Opaque>
void keep(Opaque* opaque, const Content& c) {
  std::memcpy(opaque, &c, sizeof c);
}
template <class Opaque>
cublasStatus_t discard(Opaque* opaque) {
  if (opaque != nullptr) std::memset(opaque, 0, sizeof *opaque);
  delete opaque;
  return CUBLAS_STATUS_SUCCESS;
}
template <class T>
T value_of(const char* call, const void* data, size_t bytes) {
  if (data == nullptr || bytes != sizeof(T)) misuse("{}: a value of {} bytes, not {}", call, bytes, sizeof(T));
  T value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

void require_handle(const char* call, cublasLtHandle_t handle) {
  if (handle == nullptr || !handle->live) misuse("{}: no live handle", call);
}

Element element(const char* call, cudaDataType_t type) {
  switch (type) {
    case CUDA_R_32F:
      return Element::f32;
    case CUDA_R_16F:
      return Element::f16;
    case CUDA_R_16BF:
      return Element::bf16;
    default:
      misuse("{}: data type {}", call, static_cast<int>(type));
  }
}

struct Matrix {
  Element type;
  size_t rows, columns, ld;
  size_t bytes() const { return ((columns - 1) * ld + rows) * element_size(type); }
};
struct Problem {
  Matrix a, b, d;
  bool transpose_a, transpose_b, tf32;
  size_t m, n, k;

  uint64_t fingerprint() const {
    uint64_t hash = 1469598103934665603u;
    for (const Matrix* x : {&a, &b, &d}) {
      for (size_t v : {static_cast<size_t>(x->type), x->rows, x->columns, x->ld}) hash = (hash ^ v) * 1099511628211u;
    }
    return (hash ^ (transpose_a ? 2 : 0) ^ (transpose_b ? 4 : 0) ^ (tf32 ? 8 : 0)) * 1099511628211u;
  }
};

Matrix matrix(const char* call, const char* name, cublasLtMatrixLayout_t handle) {
  const auto l = content<Layout>(call, handle, kLayoutMark);
  if (l.rows == 0 || l.columns == 0) misuse("{}: {} has no rows or columns", call, name);
  if (l.rows > INT32_MAX || l.columns > INT32_MAX) misuse("{}: {} has more rows or columns than int32", call, name);
  if (l.ld < static_cast<int64_t>(l.rows)) misuse("{}: {} has {} rows, leading dimension {}", call, name, l.rows, l.ld);
  return {element(call, l.type), l.rows, l.columns, static_cast<size_t>(l.ld)};
}

bool transposed(const char* call, int32_t operation) {
  if (operation != CUBLAS_OP_N && operation != CUBLAS_OP_T) misuse("{}: operation {}", call, operation);
  return operation == CUBLAS_OP_T;
}

struct Descriptors {
  cublasLtMatmulDesc_t product;
  cublasLtMatrixLayout_t a, b, c, d;
};
Problem problem(const char* call, const Descriptors& in) {
  const auto product = content<Product>(call, in.product, kProductMark);
  Problem p{matrix(call, "A", in.a),
            matrix(call, "B", in.b),
            matrix(call, "D", in.d),
            transposed(call, product.transpose_a),
            transposed(call, product.transpose_b),
            product.compute == CUBLAS_COMPUTE_32F_FAST_TF32,
            0,
            0,
            0};
  const Matrix c = matrix(call, "C", in.c);
  if (std::tie(c.type, c.rows, c.columns) != std::tie(p.d.type, p.d.rows, p.d.columns)) {
    misuse("{}: C and D differ in type or shape", call);
  }
  if (p.a.type != p.b.type) misuse("{}: A and B differ in type", call);
  if (p.d.type != Element::f32 && p.d.type != p.a.type) misuse("{}: D is neither fp32 nor of A's type", call);
  if (p.tf32 && p.a.type != Element::f32) misuse("{}: TF32 of 16-bit matrices", call);
  if (product.scale != CUDA_R_32F) misuse("{}: a scale type other than fp32", call);
  p.m = p.transpose_a ? p.a.columns : p.a.rows;
  p.k = p.transpose_a ? p.a.rows : p.a.columns;
  const size_t b_rows = p.transpose_b ? p.b.columns : p.b.rows;
  p.n = p.transpose_b ? p.b.rows : p.b.columns;
  if (b_rows != p.k || p.d.rows != p.m || p.d.columns != p.n) {
    misuse("{}: ({}, {}) by ({}, {}) into ({}, {})", call, p.m, p.k, b_rows, p.n, p.d.rows, p.d.columns);
  }
  return p;
}

/// op(X) as one array, column by column, as the product reads it.
std::vector<float> packed(const void* data, const Matrix& x, bool transpose, bool tf32) {
  const size_t rows = transpose ? x.columns : x.rows;
  std::vector<float> out(x.rows * x.columns);
  for (size_t j = 0; j < x.columns; ++j) {
    for (size_t i = 0; i < x.rows; ++i) {
      const float value = load(data, x.type, i + j * x.ld);
      out[transpose ? j + i * rows : i + j * rows] = tf32 ? rounded_to_tf32(value) : value;
    }
  }
  return out;
}

struct Call {
  Problem p;
  Algorithm algorithm;
  float alpha, beta;
  const void *a, *b;
  void* d;
  void* workspace;
};

void multiply(const Call& c) {
  const Problem& p = c.p;
  // The caller's data there, if it put any, are gone.
  if (c.algorithm.workspace > 0) std::memset(c.workspace, 0xFF, c.algorithm.workspace);
  const auto a = packed(c.a, p.a, p.transpose_a, p.tf32), b = packed(c.b, p.b, p.transpose_b, p.tf32);
  std::vector<double> sum(p.m);
  for (size_t j = 0; j < p.n; ++j) {
    std::fill(sum.begin(), sum.end(), 0.0);
    for (size_t q = 0; q < p.k; ++q) {
      const auto factor = static_cast<double>(b[q + j * p.k]);
      for (size_t i = 0; i < p.m; ++i) sum[i] += static_cast<double>(a[i + q * p.m]) * factor;
      if (c.algorithm.rounds_parts && q == p.k / 2) {
        for (double& s : sum) {
          uint32_t part = 0;
          store(&part, p.d.type, 0, s);
          s = static_cast<double>(load(&part, p.d.type, 0));
        }
      }
    }
    for (size_t i = 0; i < p.m; ++i) {
      const size_t at = i + j * p.d.ld;
      double value = static_cast<double>(c.alpha) * sum[i];
      if (c.beta != 0) value += static_cast<double>(c.beta) * static_cast<double>(load(c.d, p.d.type, at));
      store(c.d, p.d.type, at, value);
    }
  }
}

}  // namespace
}  // namespace plsc::standin

using namespace plsc::standin;

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  require_handle("cublasLtDestroy", handle);
  handle->live = false;
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
const char* cublasLtGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : "CUBLAS_STATUS_INVALID_VALUE";
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "success" : "the stand-in's status for an invalid value";
}
size_t cublasLtGetVersion() { return CUBLAS_VERSION; }

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
  *layout = new cublasLtMatrixLayoutOpaque_t{};
  keep(*layout, Layout{kLayoutMark, type, rows, columns, ld});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return discard(layout); }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* product, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  if (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_FAST_TF32) {
    misuse("cublasLtMatmulDescCreate: compute type {}", static_cast<int>(compute));
  }
  *product = new cublasLtMatmulDescOpaque_t{};
  Product p;
  p.compute = compute;
  p.scale = scale;
  keep(*product, p);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product) { return discard(product); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute,
                                              const void* data, size_t bytes) {
  constexpr const char* kCall = "cublasLtMatmulDescSetAttribute";
  auto p = content<Product>(kCall, product, kProductMark);
  if (attribute == CUBLASLT_MATMUL_DESC_TRANSA) {
    p.transpose_a = value_of<int32_t>(kCall, data, bytes);
  } else if (attribute == CUBLASLT_MATMUL_DESC_TRANSB) {
    p.transpose_b = value_of<int32_t>(kCall, data, bytes);
  } else {
    misuse("{}: attribute {} is not played", kCall, static_cast<int>(attribute));
  }
  keep(product, p);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t{};
  keep(*preference, Preference{});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) { return discard(preference); }
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* data,
                                                    size_t bytes) {
  constexpr const char* kCall = "cublasLtMatmulPreferenceSetAttribute";
  auto p = content<Preference>(kCall, preference, kPreferenceMark);
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
    p.workspace = value_of<uint64_t>(kCall, data, bytes);
  } else if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) {
    p.reduction = value_of<uint32_t>(kCall, data, bytes);
  } else if (attribute >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES &&
             attribute <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES) {
    const auto alignment = value_of<uint32_t>(kCall, data, bytes);
    if (alignment == 0 || (alignment & (alignment - 1)) != 0) misuse("{}: an alignment of {} bytes", kCall, alignment);
    p.alignment[static_cast<size_t>(attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES)] = alignment;
  } else {
    misuse("{}: attribute {} is not played", kCall, static_cast<int>(attribute));
  }
  keep(preference, p);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t* results, int* returned) {
  constexpr const char* kCall = "cublasLtMatmulAlgoGetHeuristic";
  require_handle(kCall, handle);
  if (wanted <= 0) misuse("{}: {} algorithms wanted", kCall, wanted);
  const auto pref = content<Preference>(kCall, preference, kPreferenceMark);
  const Problem p = problem(kCall, {product, a, b, c, d});
  std::vector<cublasLtMatmulHeuristicResult_t> found;
  const auto offer = [&](const Algorithm& algorithm, cublasStatus_t state) {
    auto& result = found.emplace_back();
    keep(&result.algo, algorithm);
    result.workspaceSize = algorithm.workspace;
    result.state = state;
  };
  if (wanted > 1) offer({}, CUBLAS_STATUS_NOT_SUPPORTED);  // states are there to be looked at
  bool aligned = true;
  for (uint32_t bytes : pref.alignment) aligned = aligned && bytes >= 16;
  for (const Matrix* x : {&p.a, &p.b, &p.d}) aligned = aligned && x->ld * element_size(x->type) % 16 == 0;
  const bool split = p.k >= 64;
  const uint64_t workspace = split ? 2 * p.m * p.n * 4 : 0;
  if (aligned && workspace <= pref.workspace) {
    const bool rounds = split && (pref.reduction & ~uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE}) != 0;
    offer({kAlgorithmMark, p.fingerprint(), 16, workspace, rounds ? 1u : 0u}, CUBLAS_STATUS_SUCCESS);
  }
  offer({kAlgorithmMark, p.fingerprint(), element_size(p.a.type), 0, 0}, CUBLAS_STATUS_SUCCESS);
  *returned = std::min(wanted, static_cast<int>(found.size()));
  std::copy_n(found.begin(), *returned, results);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  constexpr const char* kCall = "cublasLtMatmul";
  require_handle(kCall, handle);
  if (stream == nullptr) misuse("{}: on the default stream, which waits for every other", kCall);
  if (alpha == nullptr || beta == nullptr) misuse("{}: alpha or beta is null", kCall);
  if (is_device_memory(alpha, 4) || is_device_memory(beta, 4)) misuse("{}: alpha and beta are read on the host", kCall);
  Call call{problem(kCall, {product, a_layout, b_layout, c_layout, d_layout}), {}, 0, 0, a, b, d, workspace};
  std::memcpy(&call.alpha, alpha, 4);
  std::memcpy(&call.beta, beta, 4);
  call.algorithm = content<Algorithm>(kCall, algorithm, kAlgorithmMark);
  if (call.algorithm.fingerprint != call.p.fingerprint()) misuse("{}: an algorithm of another product", kCall);
  if (c != d) misuse("{}: C and D apart are not played", kCall);
  const Span sa{"A", a, call.p.a.bytes()}, sb{"B", b, call.p.b.bytes()}, sd{"D", d, call.p.d.bytes()};
  const Span sw{"the workspace", workspace, workspace_bytes};
  if (workspace_bytes < call.algorithm.workspace) {
    misuse("{}: {} bytes of workspace, the algorithm wants {}", kCall, workspace_bytes, call.algorithm.workspace);
  }
  require_device_memory(kCall, {sa, sb, sd, sw});
  for (const Span& s : {sa, sb, sd}) require_aligned(kCall, s, call.algorithm.alignment);
  require_aligned(kCall, sw, 16);
  require_apart(kCall, sd, {sa, sb, sw});
  require_apart(kCall, sw, {sa, sb});
  enqueue(stream, kCall, [call, sa, sb, sd, sw] {
    require_device_memory("cublasLtMatmul, when it ran", {sa, sb, sd, sw});
    multiply(call);
  });
  return CUBLAS_STATUS_SUCCESS;
}
