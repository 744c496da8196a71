// What a vendor's call returned, checked by one name: check(cudaMemcpyAsync(...), "cudaMemcpyAsync").
#pragma once
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include "tensor/tensor.h"

namespace plsc {

[[noreturn]] void fail_status(cudaError_t status, const char* what);
[[noreturn]] void fail_status(cublasStatus_t status, const char* what);
[[noreturn]] void fail_status(cudnnStatus_t status, const char* what);

/// Throws Error where a call failed: the library, the call, and what the library says about it. `what` is the call's
/// name. A CUDA call may report what went wrong in work that was queued before it.
inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) fail_status(status, what);
}
inline void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) fail_status(status, what);
}
inline void check(cudnnStatus_t status, const char* what) {
  if (status != CUDNN_STATUS_SUCCESS) fail_status(status, what);
}

/// A caller's mistake: a tensor of another shape or type, or in host memory.
inline void check_device_tensor(const char* what, const Tensor& t, const Shape& shape, Dtype dtype) {
  PLSC_CHECK(t.defined() && !t.on_host() && t.shape() == shape && t.dtype() == dtype,
             "{}: {} of {} in {} memory, expected {} of {} on the device", what,
             t.defined() ? dtype_name(t.dtype()) : "nothing", t.shape().text(), t.on_host() ? "host" : "device",
             dtype_name(dtype), shape.text());
}

}  // namespace plsc
