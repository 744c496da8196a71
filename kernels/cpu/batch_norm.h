// Batch norm over rows of `width` columns, one column a channel, with what follows it in a ResNet: a residual, then
// ReLU or PReLU. A caller may fold k rows of C channels into one row of k*C columns, so that loops are long where C is
// small: every per-column array then repeats its C values k times. One thread's rows each.
#pragma once
#include <cstdint>

#include "kernels/cpu/element.h"

namespace plsc::kernels {

/// sum[c] += x, squares[c] += x^2 over the rows, in double: exact enough that the statistics of a batch do not depend
/// on how its rows are cut over threads and ranks, but for a rounding of the last bit once in many millions.
void column_sums(const float* x, int64_t rows, int64_t width, double* sum, double* squares);
void column_sums(const Bf16* x, int64_t rows, int64_t width, double* sum, double* squares);

enum class NormActivation { none, relu, prelu };

/// What turns x into z and z into y (kernels/math/batch_norm.h); arrays of `width`.
struct NormColumns {
  const float* mean = nullptr;
  const float* scale = nullptr;
  const float* beta = nullptr;
  const float* slope = nullptr;  // PReLU
};

/// y = activation((x - mean) scale + beta [+ residual]). A NaN stays a NaN, also through ReLU.
template <class T, class Y>
struct NormForward {
  int64_t rows = 0, width = 0;
  NormColumns columns;
  NormActivation activation = NormActivation::none;
  const T* x = nullptr;
  const T* residual = nullptr;  // or null
  Y* y = nullptr;
};
void norm_forward(const NormForward<float, float>& args);
void norm_forward(const NormForward<Bf16, Bf16>& args);
void norm_forward(const NormForward<Bf16, float>& args);

/// How dz follows from dy.
template <class T, class Y>
struct NormGradient {
  int64_t rows = 0, width = 0;
  NormColumns columns;
  NormActivation activation = NormActivation::none;
  const T* x = nullptr;
  const T* residual = nullptr;  // where it went into a PReLU
  const Y* y = nullptr;         // read in place of z where not null (a residual went into a ReLU)
  const Y* dy = nullptr;
};

/// Adds over the rows, in double: sum_dz, sum_dz (x - mean), and for PReLU the slope's gradient, sum of min(z, 0) dy.
struct NormSums {
  double* dz = nullptr;
  double* dz_x = nullptr;
  double* dslope = nullptr;  // PReLU
};
void norm_backward_sums(const NormGradient<float, float>& args, const NormSums& sums);
void norm_backward_sums(const NormGradient<Bf16, Bf16>& args, const NormSums& sums);
void norm_backward_sums(const NormGradient<Bf16, float>& args, const NormSums& sums);

/// dx = scale (dz - mean_dz - (x - mean) slope_dz) [+ add], dresidual = dz.
template <class T>
struct NormOutputs {
  const float* mean_dz = nullptr;   // (width)
  const float* slope_dz = nullptr;  // (width): rstd^2 times the mean of dz (x - mean)
  const T* add = nullptr;           // or null
  T* dx = nullptr;
  T* dresidual = nullptr;  // or null
};
void norm_backward(const NormGradient<float, float>& args, const NormOutputs<float>& out);
void norm_backward(const NormGradient<Bf16, Bf16>& args, const NormOutputs<Bf16>& out);
void norm_backward(const NormGradient<Bf16, float>& args, const NormOutputs<Bf16>& out);

}  // namespace plsc::kernels
