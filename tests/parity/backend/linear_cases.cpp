// The linear layer behind NHWC activations against plain loops: its weight's columns are in (C, H, W) order.
#include "cases.h"
#include "values.h"

namespace plsc::test {
namespace {

/// Row n of x in (C, H, W) order: the element of PyTorch's flatten.
size_t flat(const LinearSpec& s, int64_t n, int64_t column) {
  const int64_t pixels = s.height * s.width, c = column / pixels, pixel = column % pixels;
  return static_cast<size_t>((n * pixels + pixel) * s.channels + c);
}

struct Problem {
  explicit Problem(const LinearSpec& s)
      : in(s.channels * s.height * s.width),
        shape_x{s.batch, s.height, s.width, s.channels},
        shape_w{s.out_features, in},
        shape_y{s.batch, s.out_features},
        x(random_values(shape_x, 1, Dtype::f32)),
        w(random_values(shape_w, 2, Dtype::f32)),
        bias(s.bias ? random_values({s.out_features}, 3, Dtype::f32) : Values(static_cast<size_t>(s.out_features))),
        dy(random_values(shape_y, 4, Dtype::f32)) {}
  int64_t in;
  Shape shape_x, shape_w, shape_y;
  Values x, w, bias, dy;
};

struct Expected {
  Values y, dx, dw, dbias;
};

Expected expected_of(const LinearSpec& s, const Problem& p) {
  Expected e{Values(p.dy.size()), Values(p.x.size()), Values(p.w.size()), Values(p.bias.size())};
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t o = 0; o < s.out_features; ++o) {
      const auto k = static_cast<size_t>(n * s.out_features + o);
      e.y[k] = p.bias[static_cast<size_t>(o)];
      e.dbias[static_cast<size_t>(o)] += p.dy[k];
      for (int64_t j = 0; j < p.in; ++j) {
        const size_t i = flat(s, n, j), wj = static_cast<size_t>(o * p.in + j);
        e.y[k] += p.x[i] * p.w[wj];
        e.dx[i] += p.dy[k] * p.w[wj];
        e.dw[wj] += p.dy[k] * p.x[i];
      }
    }
  }
  return e;
}

void check(Backend& backend, const LinearSpec& s) {
  Device& device = *backend.device;
  const Problem p(s);
  const Expected e = expected_of(s, p);
  const auto linear = backend.nn->make_linear(s);
  const Tensor x = upload(device, p.x, p.shape_x), w = upload(device, p.w, p.shape_w);
  const Tensor dy = upload(device, p.dy, p.shape_y);
  const Tensor bias = s.bias ? upload(device, p.bias, {s.out_features}) : Tensor();
  Tensor y = garbage(device, p.shape_y), dx = garbage(device, p.shape_x);
  Tensor dw = garbage(device, p.shape_w), dbias = s.bias ? garbage(device, {s.out_features}) : Tensor();

  linear->forward(x, w, bias, y);
  require_stored(download(device, y), e.y, Dtype::f32);
  linear->backward_data(dy, w, dx);
  require_stored(download(device, dx), e.dx, Dtype::f32);
  linear->backward_weight(x, dy, dw, dbias, false);
  require_stored(download(device, dw), e.dw, Dtype::f32);
  if (s.bias) require_stored(download(device, dbias), e.dbias, Dtype::f32);

  linear->backward_weight(x, dy, dw, dbias, true);
  require_stored(download(device, dw), moved(e.dw, 1, e.dw), Dtype::f32);
  if (s.bias) require_stored(download(device, dbias), moved(e.dbias, 1, e.dbias), Dtype::f32);
}

/// The directional derivative of the op's own forward pass; linear, so the step may be wide.
void check_difference(Backend& backend, const LinearSpec& s) {
  Device& device = *backend.device;
  const Problem p(s);
  const Values vx = random_values(p.shape_x, 7, Dtype::f32), vw = random_values(p.shape_w, 8, Dtype::f32);
  const auto linear = backend.nn->make_linear(s);
  const Tensor bias = s.bias ? upload(device, p.bias, {s.out_features}) : Tensor();
  const auto loss = [&](double h) {
    Tensor y = device.tensor(p.shape_y);
    linear->forward(upload(device, moved(p.x, h, vx), p.shape_x), upload(device, moved(p.w, h, vw), p.shape_w), bias,
                    y);
    return dot(download(device, y), p.dy);
  };
  Tensor dx = device.tensor(p.shape_x), dw = device.tensor(p.shape_w);
  Tensor dbias = s.bias ? device.tensor({s.out_features}) : Tensor();
  const Tensor dy = upload(device, p.dy, p.shape_y);
  linear->backward_data(dy, upload(device, p.w, p.shape_w), dx);
  linear->backward_weight(upload(device, p.x, p.shape_x), dy, dw, dbias, false);
  const double slope = dot(download(device, dx), vx) + dot(download(device, dw), vw);
  // Both factors move: the central difference of a product of two linear functions is exact.
  CHECK(slope == Approx((loss(0.5) - loss(-0.5)) / 1.0).epsilon(1e-4).margin(1e-2));
}

}  // namespace

void linear_cases(Backend& backend) {
  LinearSpec specs[6];
  specs[0] = {3, 1, 1, 17, 5, true};
  specs[1] = {1, 1, 1, 1, 1, true};
  specs[2] = {2, 3, 5, 3, 7, true};
  specs[3] = {5, 2, 2, 64, 128, true};
  specs[4] = {4, 7, 7, 17, 33, false};
  specs[5] = {17, 2, 2, 256, 64, true};
  for (const LinearSpec& s : specs) {
    INFO("(" << s.batch << ", " << s.height << ", " << s.width << ", " << s.channels << ") to " << s.out_features
             << ", bias " << s.bias);
    check(backend, s);
    check_difference(backend, s);
  }
}

}  // namespace plsc::test
