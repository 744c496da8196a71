// Convolution against six nested loops, and its gradients against differences of its own forward pass.
#include "cases.h"
#include "values.h"

namespace plsc::test {
namespace {

struct Problem {
  ConvSpec spec;
  Shape x, w, y;
  explicit Problem(const ConvSpec& s)
      : spec(s),
        x{s.batch, s.height, s.width, s.in_channels},
        w{s.out_channels, s.in_channels, s.kernel, s.kernel},
        y{s.batch, s.out_height(), s.out_width(), s.out_channels} {}
};

/// Calls visit(index in x, index in w, index in y) for every product of the convolution.
template <class Visit>
void for_each_product(const ConvSpec& s, const Visit& visit) {
  for (int64_t n = 0; n < s.batch; ++n)
    for (int64_t oh = 0; oh < s.out_height(); ++oh)
      for (int64_t ow = 0; ow < s.out_width(); ++ow)
        for (int64_t kh = 0; kh < s.kernel; ++kh)
          for (int64_t kw = 0; kw < s.kernel; ++kw) {
            const int64_t h = oh * s.stride - s.pad + kh, w = ow * s.stride - s.pad + kw;
            if (h < 0 || h >= s.height || w < 0 || w >= s.width) continue;
            for (int64_t o = 0; o < s.out_channels; ++o)
              for (int64_t i = 0; i < s.in_channels; ++i)
                visit(static_cast<size_t>(((n * s.height + h) * s.width + w) * s.in_channels + i),
                      static_cast<size_t>(((o * s.in_channels + i) * s.kernel + kh) * s.kernel + kw),
                      static_cast<size_t>(((n * s.out_height() + oh) * s.out_width() + ow) * s.out_channels + o));
          }
}

void check_against_loops(Backend& backend, const ConvSpec& spec, Dtype dweight) {
  Device& device = *backend.device;
  const Problem p(spec);
  const Values x = random_values(p.x, 1, spec.dtype), w = random_values(p.w, 2, spec.dtype);
  const Values dy = random_values(p.y, 3, spec.dtype), old = random_values(p.w, 4, Dtype::f32);
  Values y(dy.size()), dx(x.size()), dw(w.size());
  for_each_product(spec, [&](size_t i, size_t j, size_t k) {
    y[k] += x[i] * w[j];
    dx[i] += dy[k] * w[j];
    dw[j] += dy[k] * x[i];
  });

  const auto conv = backend.nn->make_conv(spec);
  const Tensor tx = upload(device, x, p.x, spec.dtype), tw = upload(device, w, p.w);
  const Tensor tdy = upload(device, dy, p.y, spec.dtype);
  Tensor ty = garbage(device, p.y, spec.dtype), tdx = garbage(device, p.x, spec.dtype), tdw = garbage(device, p.w);
  conv->forward(tx, tw, ty);
  require_stored(download(device, ty), y, spec.dtype);
  conv->backward_data(tdy, tw, tdx);
  require_stored(download(device, tdx), dx, spec.dtype);
  conv->backward_weight(tx, tdy, tdw, false);
  require_stored(download(device, tdw), dw, dweight);

  Tensor sum = upload(device, old, p.w);
  conv->backward_weight(tx, tdy, sum, true);
  require_stored(moved(download(device, sum), -1, old), dw, dweight);
}

/// A convolution is linear in x and in w: a difference of any width is exact but for rounding.
void check_differences(Backend& backend, const ConvSpec& spec) {
  Device& device = *backend.device;
  const Problem p(spec);
  const Values x = random_values(p.x, 1, Dtype::f32), w = random_values(p.w, 2, Dtype::f32);
  const Values r = random_values(p.y, 3, Dtype::f32), vx = random_values(p.x, 4, Dtype::f32);
  const Values vw = random_values(p.w, 5, Dtype::f32);
  const auto conv = backend.nn->make_conv(spec);
  const auto loss = [&](const Values& at_x, const Values& at_w) {
    Tensor y = device.tensor(p.y);
    conv->forward(upload(device, at_x, p.x), upload(device, at_w, p.w), y);
    return dot(download(device, y), r);
  };
  Tensor dx = device.tensor(p.x), dw = device.tensor(p.w);
  const Tensor dy = upload(device, r, p.y);
  conv->backward_data(dy, upload(device, w, p.w), dx);
  conv->backward_weight(upload(device, x, p.x), dy, dw, false);
  // Each loss sums thousands of terms around 1 with fp32 errors of 1e-6: a margin of 1e-2 on sums of size 10 to 100.
  const double h = 0.5;
  CHECK(dot(download(device, dx), vx) ==
        Approx((loss(moved(x, h, vx), w) - loss(moved(x, -h, vx), w)) / (2 * h)).epsilon(1e-4).margin(1e-2));
  CHECK(dot(download(device, dw), vw) ==
        Approx((loss(x, moved(w, h, vw)) - loss(x, moved(w, -h, vw))) / (2 * h)).epsilon(1e-4).margin(1e-2));
}

ConvSpec spec_of(std::array<int64_t, 8> v, Dtype dtype) {
  ConvSpec s;
  s.batch = v[0];
  s.height = v[1];
  s.width = v[2];
  s.in_channels = v[3];
  s.out_channels = v[4];
  s.kernel = v[5];
  s.stride = v[6];
  s.pad = v[7];
  s.dtype = dtype;
  return s;
}

}  // namespace

void conv_cases(Backend& backend, Dtype dtype, Dtype dweight) {
  // batch, height, width, in, out, kernel, stride, pad: odd sizes, one channel, one image, one pixel, a 7x7 stem
  const std::array<int64_t, 8> cases[] = {
      {2, 5, 7, 3, 4, 3, 1, 1},   {1, 7, 7, 1, 17, 3, 2, 1},  {2, 9, 5, 17, 64, 3, 2, 1}, {1, 6, 6, 64, 17, 1, 2, 0},
      {3, 4, 4, 64, 64, 3, 1, 1}, {2, 11, 11, 3, 8, 7, 2, 3}, {1, 1, 1, 17, 3, 1, 1, 0},  {5, 8, 8, 32, 64, 3, 2, 1},
      {3, 5, 5, 17, 1, 1, 2, 0},  {3, 4, 4, 17, 20, 3, 2, 1}, {9, 3, 4, 64, 9, 1, 2, 0},
  };
  for (const auto& c : cases) {
    INFO("batch " << c[0] << ", " << c[1] << " x " << c[2] << ", " << c[3] << " to " << c[4] << ", kernel " << c[5]
                  << ", stride " << c[6] << ", pad " << c[7] << ", " << dtype_name(dtype));
    check_against_loops(backend, spec_of(c, dtype), dweight);
    if (dtype == Dtype::f32) check_differences(backend, spec_of(c, dtype));
  }
}

}  // namespace plsc::test
