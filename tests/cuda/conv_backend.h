// A backend that has convolutions and linear layers alone, for the parity cases of these.
#pragma once
#include "backend/cuda/conv_cuda.h"
#include "backend/cuda/cuda_device.h"
#include "backend/cuda/linear_cuda.h"

namespace plsc::test {

class ConvAndLinear final : public NnOps {
 public:
  ConvAndLinear(CudaDevice& device, const CudaRuntimeOptions& options)
      : runtime(device, device.compute_stream(), options) {}

  std::unique_ptr<ConvOp> make_conv(const ConvSpec& spec) override { return make_cuda_conv(runtime, spec); }
  std::unique_ptr<LinearOp> make_linear(const LinearSpec& spec) override { return make_cuda_linear(runtime, spec); }

  std::unique_ptr<PoolOp> make_pool(const PoolSpec&) override { none(); }
  void batch_norm_stats(const Tensor&, Tensor&) override { none(); }
  void batch_norm_merge(const Tensor&, float, Tensor&) override { none(); }
  void batch_norm_constants(const Tensor&, const Tensor&, float, Tensor&) override { none(); }
  void batch_norm_fold(const Tensor&, float, Tensor&, Tensor&) override { none(); }
  void batch_norm_apply(const BatchNormApply&) override { none(); }
  void batch_norm_backward_sums(const BatchNormBackward&) override { none(); }
  void batch_norm_backward_apply(const BatchNormBackward&) override { none(); }
  void dropout(const Dropout&) override { none(); }
  void cast(const Tensor&, Tensor&) override { none(); }
  void add(const Tensor&, Tensor&) override { none(); }

  CudaRuntime runtime;

 private:
  [[noreturn]] static void none() { throw LogicError("this backend has convolutions and linear layers alone"); }
};

inline Backend conv_backend(const CudaRuntimeOptions& options = {}, const CudaOptions& device_options = {}) {
  Backend backend;
  auto device = std::make_unique<CudaDevice>(device_options);
  backend.nn = std::make_unique<ConvAndLinear>(*device, options);
  backend.device = std::move(device);
  return backend;
}
inline CudaRuntime& runtime_of(Backend& backend) { return static_cast<ConvAndLinear&>(*backend.nn).runtime; }

}  // namespace plsc::test
