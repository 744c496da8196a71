#include "backend/cuda/check.h"

#include <array>
#include <string>

namespace plsc {

void fail_status(cudaError_t status, const char* what) {
  fail("CUDA: {} failed: {} ({})", what, cudaGetErrorString(status), cudaGetErrorName(status));
}

void fail_status(cublasStatus_t status, const char* what) {
  fail("cuBLASLt: {} failed: {} ({})", what, cublasLtGetStatusString(status), cublasLtGetStatusName(status));
}

void fail_status(cudnnStatus_t status, const char* what) {
  // More than the status says: which rule of the library was broken, with its own words. Empty where it has none.
  std::array<char, 1024> detail{};
  cudnnGetLastErrorString(detail.data(), detail.size() - 1);
  const std::string more = detail.front() == '\0' ? "" : std::string(": ") + detail.data();
  fail("cuDNN: {} failed: {}{}", what, cudnnGetErrorString(status), more);
}

}  // namespace plsc
