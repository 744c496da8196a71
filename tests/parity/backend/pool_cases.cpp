// Max and average pooling against plain loops; rows that no window reaches, padding, overlapping windows.
#include <limits>

#include "cases.h"
#include "values.h"

namespace plsc::test {
namespace {

/// Indices in x under the window of one output element.
std::vector<size_t> window_of(const PoolSpec& s, int64_t n, int64_t oh, int64_t ow, int64_t c) {
  std::vector<size_t> inside;
  for (int64_t kh = 0; kh < s.kernel_h; ++kh)
    for (int64_t kw = 0; kw < s.kernel_w; ++kw) {
      const int64_t h = oh * s.stride - s.pad + kh, w = ow * s.stride - s.pad + kw;
      if (h < 0 || h >= s.height || w < 0 || w >= s.width) continue;
      inside.push_back(static_cast<size_t>(((n * s.height + h) * s.width + w) * s.channels + c));
    }
  return inside;
}

template <class Visit>
void for_each_output(const PoolSpec& s, const Visit& visit) {
  size_t k = 0;
  for (int64_t n = 0; n < s.batch; ++n)
    for (int64_t oh = 0; oh < s.out_height(); ++oh)
      for (int64_t ow = 0; ow < s.out_width(); ++ow)
        for (int64_t c = 0; c < s.channels; ++c) visit(k++, window_of(s, n, oh, ow, c));
}

/// Distinct values, so that each window has one maximum, all exact in 16 bit (integers below 256).
Values distinct_in_windows(const Shape& shape) {
  Values v(static_cast<size_t>(shape.elements()));
  for (size_t i = 0; i < v.size(); ++i) {
    const auto pixel = static_cast<int64_t>(i) / shape[3];
    v[i] = static_cast<double>((pixel * 37 + static_cast<int64_t>(i) % shape[3]) % 251) - 125;
  }
  return v;
}

void check(Backend& backend, const PoolSpec& s) {
  Device& device = *backend.device;
  const Shape x_shape{s.batch, s.height, s.width, s.channels};
  const Shape y_shape{s.batch, s.out_height(), s.out_width(), s.channels};
  const bool is_max = s.kind == PoolSpec::Kind::max;
  const Values x = is_max ? distinct_in_windows(x_shape) : random_values(x_shape, 1, s.dtype);
  const Values dy = random_values(y_shape, 2, s.dtype);
  Values y(dy.size()), dx(x.size());
  for_each_output(s, [&](size_t k, const std::vector<size_t>& window) {
    if (is_max) {
      size_t best = window.front();
      for (size_t i : window)
        if (x[i] > x[best]) best = i;
      y[k] = x[best];
      dx[best] += dy[k];
    } else {
      for (size_t i : window) {
        y[k] += x[i] / static_cast<double>(window.size());
        dx[i] += dy[k] / static_cast<double>(window.size());
      }
    }
  });
  const auto pool = backend.nn->make_pool(s);
  Tensor ty = garbage(device, y_shape, s.dtype), tdx = garbage(device, x_shape, s.dtype);
  pool->forward(upload(device, x, x_shape, s.dtype), ty);
  require_stored(download(device, ty), y, s.dtype);
  pool->backward(upload(device, dy, y_shape, s.dtype), tdx);
  // Up to four windows overlap; a backend may add them up in 16 bits: four roundings, of partial sums of size 1.
  const double four = 4 * rounding_of(s.dtype);
  require_close(download(device, tdx), dx, four, four + 1e-6);
}

}  // namespace

void pool_cases(Backend& backend, Dtype dtype) {
  const auto max = PoolSpec::Kind::max, average = PoolSpec::Kind::average;
  const PoolSpec specs[] = {
      {max, 2, 8, 8, 3, 3, 3, 2, 1, dtype},      {max, 1, 7, 9, 17, 3, 3, 2, 1, dtype},
      {max, 3, 5, 5, 64, 2, 2, 2, 0, dtype},     {max, 1, 1, 1, 1, 1, 1, 1, 0, dtype},
      {average, 2, 7, 7, 64, 7, 7, 1, 0, dtype}, {average, 1, 4, 3, 17, 4, 3, 1, 0, dtype},
      {average, 2, 5, 7, 3, 3, 3, 2, 1, dtype},  {average, 3, 2, 2, 1, 2, 2, 2, 0, dtype},
      {max, 2, 6, 5, 8, 3, 2, 1, 1, dtype},      {average, 1, 9, 4, 100, 2, 4, 3, 1, dtype},
      {max, 300, 60, 2, 1, 3, 2, 2, 1, dtype},   {average, 1, 1, 2, 513, 1, 2, 1, 0, dtype},
  };
  for (const PoolSpec& s : specs) {
    INFO((s.kind == max ? "max " : "average ")
         << s.kernel_h << " x " << s.kernel_w << " of (" << s.batch << ", " << s.height << ", " << s.width << ", "
         << s.channels << "), " << dtype_name(dtype));
    check(backend, s);
  }
}

}  // namespace plsc::test
