// The compute seam, part 2: what a convolutional network needs.
// Activations are (N, H, W, C), in fp32 or 16 bit; parameters, statistics and their gradients are fp32.
// Convolution weights are (O, I, K, K) as in PyTorch. Blocked layouts stay inside an op.
#pragma once
#include <memory>

#include "tensor/tensor.h"

namespace plsc {

/// A 2-D convolution without bias (every one of ours is followed by a batch norm), square kernel, symmetric padding.
struct ConvSpec {
  int64_t batch = 0, height = 0, width = 0;  // of the input
  int64_t in_channels = 0, out_channels = 0;
  int64_t kernel = 3, stride = 1, pad = 1;
  Dtype dtype = Dtype::f32;  // of x, y, dx, dy
  bool fixed_order = false;  // an image's y or dx is the same whatever the batch and the number of threads

  int64_t out_height() const { return (height + 2 * pad - kernel) / stride + 1; }
  int64_t out_width() const { return (width + 2 * pad - kernel) / stride + 1; }
  bool operator==(const ConvSpec&) const = default;
};

/// A prepared convolution: owns its plan and workspace, which are made once per spec.
class ConvOp {
 public:
  virtual ~ConvOp() = default;
  virtual void forward(const Tensor& x, const Tensor& weight, Tensor& y) = 0;
  virtual void backward_data(const Tensor& dy, const Tensor& weight, Tensor& dx) = 0;
  /// dweight is overwritten, or added to where `accumulate`. Where it is fp64 and not fp32, the images' gradients are
  /// summed in double: what they add up to then does not depend on how a batch is split over threads and ranks.
  virtual void backward_weight(const Tensor& x, const Tensor& dy, Tensor& dweight, bool accumulate) = 0;
};

/// y = x w^T + b with x (N, H, W, C) read as rows in (C, H, W) order, so that w (O, C*H*W) is PyTorch's matrix behind
/// a flatten of NCHW. H = W = 1 is a plain linear layer. All fp32: what makes an embedding is not rounded to 16 bit.
struct LinearSpec {
  int64_t batch = 0, height = 1, width = 1, channels = 0, out_features = 0;
  bool bias = true;
  bool fixed_order = false;  // a row of y or dx is the same whatever the batch and the number of threads
  bool operator==(const LinearSpec&) const = default;
};
class LinearOp {
 public:
  virtual ~LinearOp() = default;
  virtual void forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y) = 0;  // y (N, O)
  virtual void backward_data(const Tensor& dy, const Tensor& weight, Tensor& dx) = 0;
  /// dbias may be undefined where the spec has no bias. fp32, or both fp64 as with convolutions.
  virtual void backward_weight(const Tensor& x, const Tensor& dy, Tensor& dweight, Tensor& dbias, bool accumulate) = 0;
};

struct PoolSpec {
  enum class Kind { max, average } kind = Kind::max;
  int64_t batch = 0, height = 0, width = 0, channels = 0;
  int64_t kernel_h = 3, kernel_w = 3, stride = 2, pad = 1;
  Dtype dtype = Dtype::f32;

  int64_t out_height() const { return (height + 2 * pad - kernel_h) / stride + 1; }
  int64_t out_width() const { return (width + 2 * pad - kernel_w) / stride + 1; }
  bool operator==(const PoolSpec&) const = default;
};
class PoolOp {
 public:
  virtual ~PoolOp() = default;
  virtual void forward(const Tensor& x, Tensor& y) = 0;
  virtual void backward(const Tensor& dy, Tensor& dx) = 0;  // of the last forward
};

enum class Activation { none, relu, prelu };

/// z = gamma (x - mean) rstd + beta + residual, y = activation(z). Undefined tensors mean: gamma 1, no residual.
/// This one pass is what every batch norm of a ResNet does, so the fusion is the op.
struct BatchNormApply {
  Tensor x;          // (N, H, W, C) or (N, C)
  Tensor mean_rstd;  // (2, C) fp32
  Tensor gamma;      // (C) fp32 or undefined
  Tensor beta;       // (C) fp32
  Tensor residual;   // like x, or undefined
  Activation activation = Activation::none;
  Tensor slope;  // PReLU: (C) or (1) fp32
  Tensor y;      // output, like x (or fp32 where x is 16 bit)
  /// Output (2, C) fp64, or undefined where not wanted: batch_norm_stats of y, in the same pass where the backend can.
  Tensor sums;
};

/// The backward pass of BatchNormApply in two ops, because the sums may cross ranks in between.
struct BatchNormBackward {
  BatchNormApply forward;  // as it ran (z is computed again, not stored); y is read where a residual went into a ReLU
  Tensor dy;               // like y
  Tensor sums;       // (2, C) fp64: sum dz, sum dz * xhat. Written by _sums, read by _apply (maybe merged between)
  Tensor dslope;     // PReLU, fp64 of slope's shape, written by _sums where defined
  double count = 0;  // rows (N*H*W) behind the sums, over all ranks where merged; 0: statistics were constants
  Tensor add;        // like x, or undefined: added to dx (the gradient that comes by the residual path)
  Tensor dx;         // output, like x
  Tensor dresidual;  // output dz, like x, or undefined where not wanted
};

/// Ops that hold no state. All are repeatable for a fixed number of threads.
class NnOps {
 public:
  virtual ~NnOps() = default;

  virtual std::unique_ptr<ConvOp> make_conv(const ConvSpec& spec) = 0;
  virtual std::unique_ptr<LinearOp> make_linear(const LinearSpec& spec) = 0;
  virtual std::unique_ptr<PoolOp> make_pool(const PoolSpec& spec) = 0;

  /// Per channel over all rows of x: sums (2, C) fp64 = sum of x, sum of x^2. The CPU's are exact sums
  /// (kernels/math/exact_sum.h): the same curve on any number of ranks begins here. CUDA's are the same each time, and
  /// as near as fp32 arithmetic on distances to the first row is (kernels/cuda/batch_norm.h).
  virtual void batch_norm_stats(const Tensor& x, Tensor& sums) = 0;
  /// gathered (W, 2C + 1) fp64: each rank's sums and its row count. mean_rstd (2, C) fp32 of all of them,
  /// rstd = 1 / sqrt(variance + eps).
  virtual void batch_norm_merge(const Tensor& gathered, float eps, Tensor& mean_rstd) = 0;
  /// The same of constants: a mean and a variance (C).
  virtual void batch_norm_constants(const Tensor& mean, const Tensor& variance, float eps, Tensor& mean_rstd) = 0;
  /// Folds what all micro-batches and ranks of a step saw, sums (2C + 1) fp64 as above, into running_mean and
  /// running_var (C): r += momentum (value - r), the variance unbiased as PyTorch's is. Unless the state blocks
  /// updates.
  virtual void batch_norm_fold(const Tensor& sums, float momentum, Tensor& running_mean, Tensor& running_var) = 0;
  virtual void batch_norm_apply(const BatchNormApply& args) = 0;
  virtual void batch_norm_backward_sums(const BatchNormBackward& args) = 0;
  virtual void batch_norm_backward_apply(const BatchNormBackward& args) = 0;

  /// Keeps an element where the counter RNG of (seed, step, global sample, position) says so, and scales by 1/(1-p).
  /// Row i of x is sample first_sample + i of the global batch; step and first_sample are those of the step's state.
  /// The backward pass is the same call on dy.
  struct Dropout {
    Tensor x, y;
    float p = 0;
    uint64_t seed = 0;
  };
  virtual void dropout(const Dropout& args) = 0;

  /// Converts between fp32 and 16 bit, and from fp64 to fp32 (round to nearest even).
  virtual void cast(const Tensor& from, Tensor& to) = 0;
  /// y += x; both fp32, or x fp64 and y either.
  virtual void add(const Tensor& x, Tensor& y) = 0;
};

}  // namespace plsc
