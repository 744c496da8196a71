// Single layers, forward and backward, against what PyTorch computed in double precision (generate_layers.py).
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "backend/backend.h"
#include "support/catch.h"
#include "support/npy.h"
#include "support/source_dir.h"

namespace plsc::test {
namespace {

/// One case's folder, and the tolerance that all of them share.
class Golden {
 public:
  explicit Golden(const std::string& name) : folder_(test::source_dir() + "/tests/golden/backend/data/" + name) {}

  Tensor read(const std::string& tensor) const { return read_npy(folder_ + "/" + tensor + ".npy"); }
  bool has(const std::string& tensor) const { return std::filesystem::exists(folder_ + "/" + tensor + ".npy"); }
  Tensor read_if_there(const std::string& tensor) const { return has(tensor) ? read(tensor) : Tensor(); }

  /// Our fp32 against PyTorch's double: 1e-5 of the value or of the tensor's root mean square, for sums of up to a
  /// thousand terms of rounding error 6e-8.
  void check(const std::string& tensor, const Tensor& actual) const {
    const Tensor expected = read(tensor);
    INFO(tensor << " of " << folder_);
    REQUIRE(actual.shape() == expected.shape());
    double squares = 0;
    for (float e : expected.span<float>()) squares += static_cast<double>(e) * static_cast<double>(e);
    const double rms = std::sqrt(squares / static_cast<double>(expected.elements()));
    for (int64_t i = 0; i < expected.elements(); ++i) {
      const double e = static_cast<double>(expected.data<float>()[i]);
      CHECK(static_cast<double>(actual.data<float>()[i]) == Approx(e).epsilon(1e-5).margin(1e-5 * rms));
    }
  }

 private:
  std::string folder_;
};

void check_convolution(const std::string& name, int64_t stride, int64_t pad) {
  const Golden golden(name);
  Backend backend = make_cpu_backend(2);
  const Tensor x = golden.read("x"), weight = golden.read("weight"), dy = golden.read("dy");
  ConvSpec spec;
  spec.batch = x.dim(0);
  spec.height = x.dim(1);
  spec.width = x.dim(2);
  spec.in_channels = x.dim(3);
  spec.out_channels = weight.dim(0);
  spec.kernel = weight.dim(2);
  spec.stride = stride;
  spec.pad = pad;
  const auto conv = backend.nn->make_conv(spec);
  Tensor y = backend.device->tensor(dy.shape()), dx = backend.device->tensor(x.shape());
  Tensor dweight = backend.device->tensor(weight.shape());
  conv->forward(x, weight, y);
  conv->backward_data(dy, weight, dx);
  conv->backward_weight(x, dy, dweight, false);
  golden.check("y", y);
  golden.check("dx", dx);
  golden.check("dweight", dweight);
}

void check_norm(const std::string& name, Activation activation) {
  const Golden golden(name);
  Backend backend = make_cpu_backend(2);
  Device& device = *backend.device;
  BatchNormBackward b;
  BatchNormApply& a = b.forward;
  a.x = golden.read("x");
  const int64_t channels = a.x.dim(a.x.shape().size() - 1), rows = a.x.elements() / channels;
  Tensor packed = device.tensor({2 * channels + 1}, Dtype::f64);
  Tensor stats = packed.slice(0, {2, channels});
  backend.nn->batch_norm_stats(a.x, stats);
  packed.data<double>()[2 * channels] = static_cast<double>(rows);
  a.mean_rstd = device.tensor({2, channels});
  backend.nn->batch_norm_merge(packed.reshape({1, 2 * channels + 1}), 1e-5f, a.mean_rstd);

  a.gamma = golden.read("gamma");
  a.beta = golden.read("beta");
  a.residual = golden.read_if_there("residual");
  a.activation = activation;
  a.slope = golden.read_if_there("slope");
  a.y = device.tensor(a.x.shape());
  backend.nn->batch_norm_apply(a);
  golden.check("y", a.y);

  b.dy = golden.read("dy");
  b.sums = device.tensor({2, channels}, Dtype::f64);
  if (a.slope.defined()) b.dslope = device.tensor(a.slope.shape(), Dtype::f64);
  backend.nn->batch_norm_backward_sums(b);
  const auto rounded = [&](const Tensor& t) {
    Tensor f = device.tensor(t.shape());
    backend.nn->cast(t, f);
    return f;
  };
  golden.check("dbeta", rounded(b.sums.slice(0, {channels})));
  golden.check("dgamma", rounded(b.sums.slice(channels, {channels})));
  if (a.slope.defined()) golden.check("dslope", rounded(b.dslope));
  b.count = static_cast<double>(rows);
  b.dx = device.tensor(a.x.shape());
  if (a.residual.defined()) b.dresidual = device.tensor(a.x.shape());
  backend.nn->batch_norm_backward_apply(b);
  golden.check("dx", b.dx);
  if (a.residual.defined()) golden.check("dresidual", b.dresidual);

  // PyTorch's running statistics after the first step: mean 0 and variance 1, moved by a tenth.
  Tensor mean = device.zeros({channels}),
         variance = Tensor::from(std::vector<float>(static_cast<size_t>(channels), 1), {channels});
  backend.nn->batch_norm_fold(packed, 0.1f, mean, variance);
  golden.check("running_mean", mean);
  golden.check("running_var", variance);
}

void check_pooling(const std::string& name, PoolSpec spec) {
  const Golden golden(name);
  Backend backend = make_cpu_backend(2);
  const Tensor x = golden.read("x"), dy = golden.read("dy");
  spec.batch = x.dim(0);
  spec.height = x.dim(1);
  spec.width = x.dim(2);
  spec.channels = x.dim(3);
  const auto pool = backend.nn->make_pool(spec);
  Tensor y = backend.device->tensor(dy.shape()), dx = backend.device->tensor(x.shape());
  pool->forward(x, y);
  golden.check("y", y);
  pool->backward(dy, dx);
  golden.check("dx", dx);
}

}  // namespace

TEST_CASE("golden: convolution") {
  check_convolution("conv_3x3", 1, 1);
  check_convolution("conv_3x3_stride_2", 2, 1);
  check_convolution("conv_1x1_stride_2", 2, 0);
  check_convolution("conv_7x7_stem", 2, 3);
}

TEST_CASE("golden: batch norm with all that follows it") {
  check_norm("norm", Activation::none);
  check_norm("norm_rows", Activation::none);
  check_norm("norm_relu", Activation::relu);
  check_norm("norm_residual_relu", Activation::relu);
  check_norm("norm_prelu", Activation::prelu);
  check_norm("norm_shared_prelu", Activation::prelu);
}

TEST_CASE("golden: linear layer behind a flatten") {
  const Golden golden("linear");
  Backend backend = make_cpu_backend(2);
  Device& device = *backend.device;
  const Tensor x = golden.read("x"), weight = golden.read("weight"), bias = golden.read("bias"), dy = golden.read("dy");
  const auto linear = backend.nn->make_linear({x.dim(0), x.dim(1), x.dim(2), x.dim(3), weight.dim(0), true});
  Tensor y = device.tensor(dy.shape()), dx = device.tensor(x.shape());
  Tensor dweight = device.tensor(weight.shape()), dbias = device.tensor(bias.shape());
  linear->forward(x, weight, bias, y);
  linear->backward_data(dy, weight, dx);
  linear->backward_weight(x, dy, dweight, dbias, false);
  golden.check("y", y);
  golden.check("dx", dx);
  golden.check("dweight", dweight);
  golden.check("dbias", dbias);
}

TEST_CASE("golden: pooling") {
  PoolSpec max;
  check_pooling("max_pool", max);
  PoolSpec average;
  average.kind = PoolSpec::Kind::average;
  average.kernel_h = 4;
  average.kernel_w = 3;
  average.stride = 1;
  average.pad = 0;
  check_pooling("average_pool", average);
}

}  // namespace plsc::test
