// How fast a device multiplies and copies.
#include "app/rates.h"

#include <functional>
#include <memory>

#include "base/clock.h"

namespace plsc {
namespace {

constexpr double kSeconds = 0.25;                    // of repeats, for each rate
constexpr double kWarmSeconds = 0.02;                // a product that takes that long is large enough to be timed
constexpr int64_t kSmallest = 128, kLargest = 8192;  // sides of the product

/// Seconds of one run of `work` on the device, by repeats.
template <class Work>
double seconds_of(Device& device, const Work& work) {
  work();
  device.synchronize();
  int done = 0;
  const Stopwatch watch;
  while (done == 0 || watch.seconds() < kSeconds) {
    work();
    device.synchronize();
    ++done;
  }
  return watch.seconds() / done;
}

/// A product of two square matrices, ready to run.
using Product = std::function<void()>;

/// In fp32, or TF32 where the configuration allows it.
Product linear_product(Context& context, int64_t side) {
  LinearSpec spec;
  spec.batch = spec.channels = spec.out_features = side;
  spec.bias = false;
  Device& device = context.device();
  const std::shared_ptr<LinearOp> op = context.nn().make_linear(spec);
  const Tensor x = device.zeros({side, 1, 1, side}), weight = device.zeros({side, side});
  Tensor y = device.zeros({side, side});
  return [=]() mutable { op->forward(x, weight, {}, y); };
}

/// In 16 bit, as the networks have it: a convolution of 1 x 1 is a product.
Product pointwise_product(Context& context, int64_t side, Dtype type) {
  ConvSpec spec;
  spec.batch = 1;
  spec.height = side;
  spec.width = 1;
  spec.in_channels = spec.out_channels = side;
  spec.kernel = 1;
  spec.pad = 0;
  spec.dtype = type;
  Device& device = context.device();
  const std::shared_ptr<ConvOp> op = context.nn().make_conv(spec);
  const Shape map{1, side, 1, side};
  const Tensor x = device.zeros(map, type), weight = device.zeros({side, side, 1, 1});
  Tensor y = device.zeros(map, type);
  return [=]() mutable { op->forward(x, weight, y); };
}

/// FLOP a second of make(side), a Product, at the size that the device needs to be busy.
template <class Make>
double product_rate(Device& device, const Make& make) {
  for (int64_t side = kSmallest;; side *= 2) {
    const Product run = make(side);
    run();
    device.synchronize();
    const Stopwatch watch;
    run();
    device.synchronize();
    if (watch.seconds() < kWarmSeconds && side < kLargest) continue;
    return 2.0 * static_cast<double>(side * side * side) / seconds_of(device, run);
  }
}

}  // namespace

double fp32_product_rate(Context& context) {
  return product_rate(context.device(), [&](int64_t side) { return linear_product(context, side); });
}
double half_product_rate(Context& context, Dtype type) {
  PLSC_CHECK(type == Dtype::bf16 || type == Dtype::f16, "a rate of {}", dtype_name(type));
  return product_rate(context.device(), [&](int64_t side) { return pointwise_product(context, side, type); });
}

double host_copy_rate(Device& device) {
  constexpr int64_t kBytes = 64 << 20;  // beyond most caches
  const Tensor from = device.zeros({kBytes}, Dtype::u8);
  Tensor to = device.zeros({kBytes}, Dtype::u8);
  return static_cast<double>(kBytes) / seconds_of(device, [&] { device.copy(from, to); });
}

}  // namespace plsc
