// Max and average pooling by our own kernels. The average counts no padding, and the last window may leave rows of the
// input out, as in PyTorch's default (ceil_mode off).
#include "backend/cuda/pool_cuda.h"

#include "backend/cuda/kernel_types.h"
#include "kernels/cuda/pool.h"

namespace plsc {
namespace {

kernels::cuda::PoolShape kernel_shape(const PoolSpec& s) {
  kernels::cuda::PoolShape shape;
  shape.images = s.batch;
  shape.height = s.height;
  shape.width = s.width;
  shape.channels = s.channels;
  shape.kernel_h = s.kernel_h;
  shape.kernel_w = s.kernel_w;
  shape.stride = s.stride;
  shape.pad = s.pad;
  shape.out_height = s.out_height();
  shape.out_width = s.out_width();
  return shape;
}

class CudaPool final : public PoolOp {
 public:
  CudaPool(CudaRuntime& runtime, const PoolSpec& spec) : runtime_(runtime), spec_(spec), shape_(kernel_shape(spec)) {}

  void forward(const Tensor& x, Tensor& y) override {
    check(x, y);
    // Each pass has its own: a recorded pass goes on using it when this op is long gone.
    if (is_max()) place_ = runtime_.device.tensor(y.shape(), Dtype::u8);
    with_activation_type(spec_.dtype, [&]<class T>(T) {
      if (is_max()) {
        kernels::cuda::max_pool(shape_, elements<T>(x), elements<T>(y), place_.data<uint8_t>(), runtime_.stream);
      } else {
        kernels::cuda::average_pool(shape_, elements<T>(x), elements<T>(y), runtime_.stream);
      }
    });
  }

  void backward(const Tensor& dy, Tensor& dx) override {
    check(dx, dy);
    PLSC_CHECK(!is_max() || place_.defined(), "pooling: backward before forward");
    with_activation_type(spec_.dtype, [&]<class T>(T) {
      if (is_max()) {
        kernels::cuda::max_pool_backward(shape_, elements<T>(dy), place_.data<uint8_t>(), elements<T>(dx),
                                         runtime_.stream);
      } else {
        kernels::cuda::average_pool_backward(shape_, elements<T>(dy), elements<T>(dx), runtime_.stream);
      }
    });
  }

 private:
  bool is_max() const { return spec_.kind == PoolSpec::Kind::max; }
  void check(const Tensor& x, const Tensor& y) const {
    check_device_tensor("pooling input", x, {spec_.batch, spec_.height, spec_.width, spec_.channels}, spec_.dtype);
    check_device_tensor("pooling output", y, {spec_.batch, spec_.out_height(), spec_.out_width(), spec_.channels},
                        spec_.dtype);
  }

  CudaRuntime& runtime_;
  PoolSpec spec_;
  kernels::cuda::PoolShape shape_;
  Tensor place_;  // where in its window each maximum was, from forward to backward
};

}  // namespace

std::unique_ptr<PoolOp> make_cuda_pool(CudaRuntime& runtime, const PoolSpec& s) {
  PLSC_CHECK(s.batch > 0 && s.channels > 0 && s.stride > 0 && s.pad >= 0 && s.height + 2 * s.pad >= s.kernel_h &&
                 s.width + 2 * s.pad >= s.kernel_w && s.pad < s.kernel_h && s.pad < s.kernel_w,
             "pooling of ({}, {}, {}, {}) by {} x {}, stride {}, pad {}", s.batch, s.height, s.width, s.channels,
             s.kernel_h, s.kernel_w, s.stride, s.pad);
  PLSC_CHECK(s.width * s.channels < int64_t{1} << 31, "pooling of rows of {} elements", s.width * s.channels);
  PLSC_CHECK(s.kind == PoolSpec::Kind::average || s.kernel_h * s.kernel_w <= kernels::cuda::kMostPlaces,
             "the maximum of {} x {} elements", s.kernel_h, s.kernel_w);
  return std::make_unique<CudaPool>(runtime, s);
}

}  // namespace plsc
