// A convolution's passes as matrix products over its windows laid side by side. For small images this is many times
// faster than oneDNN's own kernels, which work on rows of pixels and, for the weights, split the batch and reduce.
#pragma once
#include <optional>

#include "backend/cpu/dnnl_exec.h"
#include "backend/nn_ops.h"
#include "kernels/cpu/windows.h"

namespace plsc {

enum class ConvPass { forward, data, weight };

class ConvProducts {
 public:
  /// True where measurement found the product faster than oneDNN's kernel (scripts/bench/conv.cpp).
  static bool preferred(const ConvSpec& spec, ConvPass pass);

  /// Primitives are made when a pass first runs.
  ConvProducts(const DnnlRuntime& runtime, const ConvSpec& spec);
  void forward(const Tensor& x, const Tensor& weight, Tensor& y);
  void backward_data(const Tensor& dy, const Tensor& weight, Tensor& dx);
  void backward_weight(const Tensor& x, const Tensor& dy, Tensor& dweight, bool accumulate);

 private:
  struct WeightedProduct {  // of images and weights: forward and data
    DnnlWeights weights;
    DnnlPrimitive product;
  };
  struct GradientProduct {
    DnnlGradient gradient;
    DnnlPrimitive first, next;  // the next ones add to the product of the first
  };

  /// The windows of `images_` images from `first_image` on, in scratch memory or where they already lie in a row.
  void* windows(const Tensor& x, int64_t first_image, Tensor& hold) const;
  void sum_windows(const Tensor& windows, int64_t first_image, Tensor& dx) const;
  void* images_of(const Tensor& t, int64_t first_image) const;
  WeightedProduct make_forward() const;
  WeightedProduct make_data() const;
  GradientProduct make_gradient() const;
  DnnlPrimitive gradient_product(bool add) const;

  const DnnlRuntime& runtime_;
  ConvSpec spec_;
  kernels::WindowShape shape_;
  int64_t images_;  // at a time
  int64_t rows_;    // output pixels of those images
  int64_t window_;  // values of one window
  std::optional<WeightedProduct> forward_, data_;
  std::optional<GradientProduct> gradient_;
};

}  // namespace plsc
