// A convolution's weight gradient as one matrix product of dy and the input's windows laid side by side. For small
// images that is many times faster than oneDNN's own kernels, which split the batch over threads and reduce.
#pragma once
#include "backend/cpu/dnnl_exec.h"
#include "backend/nn_ops.h"

namespace plsc {

class ConvWeightGemm {
 public:
  /// True where measurement found it the faster way (scripts/bench/conv.cpp).
  static bool preferred(const ConvSpec& spec);

  ConvWeightGemm(const DnnlRuntime& runtime, const ConvSpec& spec);
  /// dweight (O, I, K, K) fp32 is overwritten, or added to.
  void run(const Tensor& x, const Tensor& dy, Tensor& dweight, bool accumulate);

 private:
  const void* windows(const Tensor& x, int64_t first_image, Tensor& hold) const;

  const DnnlRuntime& runtime_;
  ConvSpec spec_;
  int64_t images_;  // at a time
  DnnlGradient gradient_;
  DnnlPrimitive first_, next_;  // the next ones add to the product of the first
};

}  // namespace plsc
