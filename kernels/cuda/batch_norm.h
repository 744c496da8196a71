// Batch norm on the device over rows of channels, with what follows it in a ResNet: a residual, then ReLU or PReLU.
// Twin of kernels/cpu/batch_norm.h. T is the type of x, Y of y: float twice, a half type twice, or a half type and
// float. Sums are made in an order that the shape alone decides: a call repeats bit for bit.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace plsc::kernels::cuda {

/// Rows and channels, both above 0, of a matrix whose rows lie one behind the other.
struct NormShape {
  int64_t rows = 0, channels = 0;
};

/// How many doubles of device memory a call that sums over rows needs for itself.
int64_t norm_scratch(const NormShape& shape);

/// sums (2, channels): the sum of each channel and of its squares. They are made of the distances to the channel's
/// first row, eight rows at a time in fp32, then in double: mean and variance are right to about 2^-22 of the
/// deviation, however far from zero the channel lies.
template <class T>
void column_sums(const NormShape& shape, const T* x, double* scratch, double* sums, cudaStream_t stream);

enum class NormActivation { none, relu, prelu };

/// Arrays of the channels; null: gamma 1, beta 0.
struct NormParameters {
  const float* mean_rstd = nullptr;  // (2, channels)
  const float* gamma = nullptr;
  const float* beta = nullptr;
  const float* slope = nullptr;  // PReLU
  bool shared_slope = false;     // there is one for all channels
};

/// y = activation((x - mean) rstd gamma + beta [+ residual]). A NaN stays a NaN, also through ReLU.
template <class T, class Y>
struct NormForward {
  NormShape shape;
  NormParameters parameters;
  NormActivation activation = NormActivation::none;
  const T* x = nullptr;
  const T* residual = nullptr;  // or null
  Y* y = nullptr;
  double* sums = nullptr;     // or null: column_sums of y, from the same pass
  double* scratch = nullptr;  // for them
};
template <class T, class Y>
void norm_forward(const NormForward<T, Y>& args, cudaStream_t stream);

/// How dz follows from dy.
template <class T, class Y>
struct NormGradient {
  NormShape shape;
  NormParameters parameters;
  NormActivation activation = NormActivation::none;
  const T* x = nullptr;
  const T* residual = nullptr;  // where it went into a PReLU
  const Y* y = nullptr;         // read in place of z where not null (a residual went into a ReLU)
  const Y* dy = nullptr;
};

/// sums (2, channels): sum dz and sum dz xhat. dslope, where it is not null: the slopes' gradients, (channels) or, of a
/// shared one, (1).
struct NormSums {
  double* sums = nullptr;
  double* dslope = nullptr;
  double* scratch = nullptr;
};
template <class T, class Y>
void norm_backward_sums(const NormGradient<T, Y>& args, const NormSums& out, cudaStream_t stream);

/// dx = gamma rstd (dz - mean of dz - xhat mean of dz xhat) [+ add], dresidual = dz.
template <class T>
struct NormOutputs {
  const double* sums = nullptr;  // as norm_backward_sums writes them, over `count` rows
  double count = 0;              // 0: mean and rstd were constants, and `sums` is not read
  const T* add = nullptr;        // or null
  T* dx = nullptr;
  T* dresidual = nullptr;  // or null
};
template <class T, class Y>
void norm_backward(const NormGradient<T, Y>& args, const NormOutputs<T>& out, cudaStream_t stream);

}  // namespace plsc::kernels::cuda
