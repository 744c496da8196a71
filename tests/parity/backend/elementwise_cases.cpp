// Conversion, addition, dropout, SGD, norms of gradients.
#include <limits>

#include "cases.h"
#include "kernels/math/sgd.h"
#include "values.h"

namespace plsc::test {
namespace {

/// Lengths around the sizes of vectors and of one thread's share.
const int64_t kLengths[] = {1, 3, 17, 64, 1000, 70001};

void cast_case(Backend& backend, int64_t n) {
  Device& device = *backend.device;
  const Values exact = random_values({n}, 41, Dtype::f32);
  Values nearest(exact.size());
  for (size_t i = 0; i < exact.size(); ++i) nearest[i] = static_cast<double>(rounded(exact[i], Dtype::bf16));
  Tensor narrow = garbage(device, {n}, Dtype::bf16), wide = garbage(device, {n});
  backend.nn->cast(upload(device, exact, {n}), narrow);
  CHECK(download(device, narrow) == nearest);
  backend.nn->cast(narrow, wide);
  CHECK(download(device, wide) == nearest);
}

/// Ties go to the even neighbour; infinity and NaN stay; overflow becomes infinity.
void cast_corners(Backend& backend) {
  Device& device = *backend.device;
  const double inf = std::numeric_limits<double>::infinity();
  const double half = 1.0 / 256;                  // half the spacing above 1
  const double smallest = std::ldexp(1.0, -133);  // subnormal
  const Values in = {1 + half, 1 + 3 * half, -1 - half, 0, inf, -inf, 3.4e38, std::nan(""), smallest};
  Tensor narrow = device.tensor({9}, Dtype::bf16);
  backend.nn->cast(upload(device, in, {9}), narrow);
  const Values out = download(device, narrow);
  CHECK(out[0] == 1);
  CHECK(out[1] == 1 + 4 * half);
  CHECK(out[2] == -1);
  CHECK(out[3] == 0);
  CHECK(out[4] == inf);
  CHECK(out[5] == -inf);
  CHECK(out[6] == inf);
  CHECK(std::isnan(out[7]));
  CHECK(out[8] == smallest);
}

/// The definition, written out again from the random numbers.
void dropout_case(Backend& backend, Dtype dtype, float p) {
  Device& device = *backend.device;
  const Shape shape{37, 3, 1, 7};  // 21 features: samples do not begin at a multiple of four
  const Values x = random_values(shape, 42, dtype);
  NnOps::Dropout args;
  args.x = upload(device, x, shape, dtype);
  args.y = garbage(device, shape, dtype);
  args.p = p;
  args.seed = 5;
  args.step = 9;
  args.first_sample = 1001;
  backend.nn->dropout(args);
  Values expected(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const uint64_t g = 1001 * 21 + i;
    const float u = math::to_unit_float(math::random4(5, math::Draw::dropout, 9, g / 4).x[g % 4]);
    expected[i] = u < p ? 0 : x[i] / (1 - static_cast<double>(p));
  }
  require_stored(download(device, args.y), expected, dtype);
}

/// A sample is dropped alike wherever it is computed.
void dropout_by_rank(Backend& backend, Dtype dtype) {
  Device& device = *backend.device;
  const Values x = random_values({10, 21}, 43, dtype);
  NnOps::Dropout args;
  args.x = upload(device, x, {10, 21}, dtype);
  args.y = device.tensor({10, 21}, dtype);
  args.p = 0.5f;
  args.seed = 6;
  backend.nn->dropout(args);
  const Values whole = download(device, args.y);
  size_t dropped = 0;
  for (double y : whole) dropped += y == 0;
  CHECK(dropped > 70);  // 105 expected of 210, standard deviation 7
  CHECK(dropped < 140);
  NnOps::Dropout last = args;
  last.x = args.x.rows(7, 3);
  last.y = device.tensor({3, 21}, dtype);
  last.first_sample = 7;
  backend.nn->dropout(last);
  CHECK(download(device, last.y) == Values(whole.begin() + 7 * 21, whole.end()));
}

/// Three steps of torch.optim.SGD's formula in double.
void sgd_case(Backend& backend, int64_t n, bool nesterov) {
  Device& device = *backend.device;
  Values w = random_values({n}, 51, Dtype::f32), v(w.size());
  Param param;
  param.name = "w";
  param.value = upload(device, w, {n});
  param.momentum = device.zeros({n});
  math::SgdRule step;
  step.lr = 0.1f;
  step.momentum = 0.9f;
  step.weight_decay = 5e-4f;
  step.nesterov = nesterov;
  step.gradient_scale = 0.25f;
  for (uint64_t t = 0; t < 3; ++t) {
    const Values g = random_values({n}, 52 + t, Dtype::f32);
    param.grad = upload(device, g, {n});
    backend.optim->sgd(param, step);
    for (size_t i = 0; i < w.size(); ++i) {
      const double decayed = 0.25 * g[i] + static_cast<double>(5e-4f) * w[i];
      v[i] = static_cast<double>(0.9f) * v[i] + decayed;
      w[i] -= static_cast<double>(0.1f) * (nesterov ? decayed + static_cast<double>(0.9f) * v[i] : v[i]);
    }
  }
  require_close(download(device, param.value), w, 0, 1e-6);
  require_close(download(device, param.momentum), v, 0, 1e-6);
}

void norm_case(Backend& backend) {
  Device& device = *backend.device;
  std::vector<Tensor> tensors;
  double expected = 0;
  for (int64_t n : kLengths) {
    const Values g = random_values({n}, static_cast<uint64_t>(n), Dtype::f32);
    expected += dot(g, g);
    tensors.push_back(upload(device, g, {n}));
  }
  const double got = backend.optim->sum_of_squares(tensors);
  CHECK(got == Approx(expected).epsilon(1e-12));
  CHECK(got == backend.optim->sum_of_squares(tensors));
  CHECK(backend.optim->sum_of_squares({}) == 0);
  // The trainer looks here for a gradient that is not finite.
  tensors.push_back(upload(device, {1, std::nan(""), 2}, {3}));
  CHECK(std::isnan(backend.optim->sum_of_squares(tensors)));
  tensors.back() = upload(device, {1, std::numeric_limits<double>::infinity(), 2}, {3});
  CHECK(std::isinf(backend.optim->sum_of_squares(tensors)));
  // 1e30 squared is beyond fp32.
  tensors = {upload(device, {1e30, 1e30}, {2})};
  CHECK(backend.optim->sum_of_squares(tensors) == Approx(2e60).epsilon(1e-6));
}

}  // namespace

void elementwise_cases(Backend& backend, Dtype dtype) {
  Device& device = *backend.device;
  for (float p : {0.0f, 0.4f}) dropout_case(backend, dtype, p);
  dropout_by_rank(backend, dtype);
  if (dtype != Dtype::f32) {
    for (int64_t n : kLengths) cast_case(backend, n);
    cast_corners(backend);
    return;
  }
  for (int64_t n : kLengths) {
    const Values a = random_values({n}, 44, dtype), b = random_values({n}, 45, dtype);
    Tensor sum = upload(device, b, {n});
    backend.nn->add(upload(device, a, {n}), sum);
    require_close(download(device, sum), moved(b, 1, a), 6e-8, 1e-9);  // one rounding
  }
}

void optimizer_cases(Backend& backend) {
  for (int64_t n : kLengths) {
    INFO(n << " elements");
    sgd_case(backend, n, false);
    sgd_case(backend, n, true);
  }
  norm_case(backend);
}

void image_cases(Backend& backend, Dtype dtype) {
  Device& device = *backend.device;
  const Shape shapes[] = {{1, 1, 1, 1}, {3, 5, 7, 3}, {2, 3, 300, 3}, {4, 9, 800, 1}, {7, 33, 31, 3}, {2, 4, 5, 2}};
  for (const Shape& s : shapes) {
    ImageNormalize args;
    args.mean = {127.5f, 100.25f, 3.0f};
    args.std = {127.5f, 64.0f, 0.7f};
    Tensor bytes(host_allocator(), s, Dtype::u8), flip(host_allocator(), {s[0]}, Dtype::u8);
    for (int64_t i = 0; i < s.elements(); ++i) bytes.data<uint8_t>()[i] = static_cast<uint8_t>(i * 7919 % 256);
    for (int64_t i = 0; i < s[0]; ++i) flip.data<uint8_t>()[i] = static_cast<uint8_t>(i % 2);
    for (bool flips : {false, true}) {
      INFO(s.text() << ", flips " << flips << ", " << dtype_name(dtype));
      Values expected(static_cast<size_t>(s.elements()));
      for (int64_t i = 0; i < s.elements(); ++i) {
        const int64_t c = i % s[3], w = i / s[3] % s[2], row = i / s[3] / s[2], image = row / s[1];
        const int64_t from = (row * s[2] + (flips && image % 2 == 1 ? s[2] - 1 - w : w)) * s[3] + c;
        const auto channel = static_cast<size_t>(c);
        expected[static_cast<size_t>(i)] = (static_cast<double>(bytes.data<uint8_t>()[from]) - args.mean[channel]) /
                                           static_cast<double>(args.std[channel]);
      }
      args.bytes = device.tensor(s, Dtype::u8);
      device.copy(bytes, args.bytes);
      args.flip = flips ? device.tensor({s[0]}, Dtype::u8) : Tensor();
      if (flips) device.copy(flip, args.flip);
      args.y = garbage(device, s, dtype);
      backend.image->normalize(args);
      require_close(download(device, args.y), expected, dtype == Dtype::bf16 ? kBf16Rounding : 2e-7, 1e-9);
    }
  }
}

}  // namespace plsc::test
