// Resuming is bit-exact only if every op is: the same call twice must give the same bits, for those that reduce.
#include "cases.h"
#include "values.h"

namespace plsc::test {

void repeat_cases(Backend& backend, Dtype dtype) {
  Device& device = *backend.device;
  const ConvSpec spec{8, 14, 14, 32, 48, 3, 2, 1, dtype};
  const Shape x_shape{8, 14, 14, 32}, y_shape{8, 7, 7, 48}, w_shape{48, 32, 3, 3};
  const Tensor x = upload(device, random_values(x_shape, 1, dtype), x_shape, dtype);
  const Tensor dy = upload(device, random_values(y_shape, 2, dtype), y_shape, dtype);
  const Tensor w = upload(device, random_values(w_shape, 3, dtype), w_shape);
  const auto conv = backend.nn->make_conv(spec);
  const auto linear = backend.nn->make_linear({8, 14, 14, 32, 24, true});
  const Tensor features = upload(device, random_values(x_shape, 1, Dtype::f32), x_shape);
  const Tensor dlinear = upload(device, random_values({8, 24}, 5, Dtype::f32), {8, 24});

  const auto all = [&] {
    std::vector<Values> results;
    Tensor y = device.tensor(y_shape, dtype), dx = device.tensor(x_shape, dtype), dw = device.tensor(w_shape);
    conv->forward(x, w, y);
    conv->backward_data(dy, w, dx);
    conv->backward_weight(x, dy, dw, false);
    Tensor stats = device.tensor({2, 32}, Dtype::f64), normal = device.tensor({2, 32}),
           dlw = device.tensor({24, 14 * 14 * 32}), db = device.tensor({24});
    backend.nn->batch_norm_stats(x, stats);
    linear->backward_weight(features, dlinear, dlw, db, false);
    BatchNormBackward b;
    b.forward.x = x;
    backend.nn->cast(stats, normal);  // no mean or deviation, but numbers of some size
    b.forward.mean_rstd = normal;
    b.forward.activation = Activation::prelu;
    b.forward.slope = upload(device, {0.25}, {1});
    b.dy = dx;
    b.sums = device.tensor({2, 32}, Dtype::f64);
    b.dslope = device.tensor({1}, Dtype::f64);
    backend.nn->batch_norm_backward_sums(b);
    for (const Tensor& t : {y, dx, dw, stats, dlw, db, b.sums, b.dslope}) results.push_back(download(device, t));
    return results;
  };
  const auto first = all();
  for (int again = 0; again < 3; ++again) CHECK(all() == first);
}

}  // namespace plsc::test
