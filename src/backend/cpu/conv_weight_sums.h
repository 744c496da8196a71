// The weight gradient of a convolution as an exact sum (kernels/math/exact_sum.h) of the images' gradients: the same on
// any number of threads and ranks. oneDNN's own sum over a batch depends on both.
#pragma once
#include <vector>

#include "backend/cpu/dnnl_exec.h"

namespace plsc {

class ConvWeightSums {
 public:
  /// Makes the primitive of one image, and says in which layout it gives the gradient.
  struct OneImage {
    DnnlPrimitive primitive;
    dnnl::memory::desc gradient;
  };
  /// make() gives one OneImage a thread; `user`: the layout of the weights as the user keeps them.
  template <class Make>
  ConvWeightSums(const DnnlRuntime& runtime, const dnnl::memory::desc& user, const Make& make) : runtime_(runtime) {
    const OneThreadPrimitives guard;
    for (int t = 0; t < runtime.threads; ++t) images_.push_back(make());
    find_places(user);
  }

  /// dweight (f64, in the user's layout) is overwritten or added to. x and dy hold `batch` images.
  void run(const Tensor& x, const Tensor& dy, int64_t batch, Tensor& dweight, bool accumulate);

 private:
  static int64_t elements_of(const dnnl::memory::desc& desc) {
    return static_cast<int64_t>(desc.get_size() / sizeof(float));
  }
  /// The sum of images [begin, end) in the primitive's layout.
  Tensor sum_images(OneImage& image, const Tensor& x, const Tensor& dy, int64_t batch, int64_t begin,
                    int64_t end) const;

  void find_places(const dnnl::memory::desc& user);

  const DnnlRuntime& runtime_;
  std::vector<OneImage> images_;  // one a thread: a primitive's arguments are bound to it
  std::vector<int64_t> places_;   // of each element of the user's layout in the primitive's
};

}  // namespace plsc
