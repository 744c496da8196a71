// What the prepared ops of one rank share: the device, the stream that all of them work on, the libraries' handles,
// and what was found out once about shapes (matrix products' plans, convolutions' algorithms).
#pragma once
#include <memory>

#include "backend/cuda/check.h"
#include "backend/device.h"

namespace plsc {

class ConvAlgorithms;
class GemmCache;

/// The deleter of a vendor's object: VendorPtr<cudnnTensorStruct, cudnnDestroyTensorDescriptor>.
template <auto destroy>
struct VendorDelete {
  template <class T>
  void operator()(T* object) const {
    destroy(object);
  }
};
template <class T, auto destroy>
using VendorPtr = std::unique_ptr<T, VendorDelete<destroy>>;

struct CudaRuntimeOptions {
  /// fp32 products may round their factors to TF32's 10 bits (compute capability 8.0 and later).
  bool tf32 = false;
  /// Only algorithms that give the same bits each time, chosen by rule and not by the clock.
  bool deterministic = false;
  /// The most memory that one convolution may take for its workspace.
  size_t conv_workspace = size_t{1} << 30;
};

/// The compute stream is bound to the handles; ops are called from one thread. Outlives what is made with it; the
/// device and the stream outlive it.
struct CudaRuntime {
  /// Throws Error where a library cannot be started. The device of `device` is current.
  CudaRuntime(Device& device, cudaStream_t stream, const CudaRuntimeOptions& options);
  ~CudaRuntime();
  CudaRuntime(const CudaRuntime&) = delete;
  CudaRuntime& operator=(const CudaRuntime&) = delete;

  Device& device;
  const cudaStream_t stream;
  const CudaRuntimeOptions options;  // conv_workspace is no more than a part of the device's memory here
  const VendorPtr<cublasLtContext, cublasLtDestroy> blas;
  const VendorPtr<cudnnContext, cudnnDestroy> dnn;
  const std::unique_ptr<GemmCache> gemms;
  const std::unique_ptr<ConvAlgorithms> convs;
};

}  // namespace plsc
