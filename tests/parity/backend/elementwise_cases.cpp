// Conversion, addition, dropout, SGD, norms of gradients.
#include <limits>

#include "cases.h"
#include "kernels/math/sgd.h"
#include "support/step_state.h"
#include "values.h"

namespace plsc::test {
namespace {

/// Lengths around the sizes of vectors and of one thread's share.
const int64_t kLengths[] = {1, 3, 17, 64, 1000, 70001};

void cast_case(Backend& backend, Dtype dtype, int64_t n) {
  Device& device = *backend.device;
  const Values exact = random_values({n}, 41, Dtype::f32);
  Values nearest(exact.size());
  for (size_t i = 0; i < exact.size(); ++i) nearest[i] = static_cast<double>(rounded(exact[i], dtype));
  Tensor narrow = garbage(device, {n}, dtype), wide = garbage(device, {n});
  backend.nn->cast(upload(device, exact, {n}), narrow);
  CHECK(download(device, narrow) == nearest);
  backend.nn->cast(narrow, wide);
  CHECK(download(device, wide) == nearest);
}

/// Ties go to the even neighbour; infinity and NaN stay; overflow becomes infinity.
void cast_corners(Backend& backend, Dtype dtype) {
  Device& device = *backend.device;
  const bool is_f16 = dtype == Dtype::f16;
  const double inf = std::numeric_limits<double>::infinity();
  const double half = rounding_of(dtype);                        // half the spacing above 1
  const double smallest = std::ldexp(1.0, is_f16 ? -24 : -133);  // subnormal
  const double beyond = is_f16 ? 65520 : 3.4e38;  // the first that is nearer to infinity, and one of those
  const Values in = {1 + half, 1 + 3 * half, -1 - half, 0, inf, -inf, beyond, std::nan(""), smallest};
  Tensor narrow = device.tensor({9}, dtype);
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

/// fp64 to fp32, and sums of all three kinds: one rounding to the type of y.
void wide_case(Backend& backend, int64_t n) {
  Device& device = *backend.device;
  Values exact = random_values({n}, 44, Dtype::f32);
  for (double& v : exact) v *= 1.0 + 1e-9;  // what fp32 cannot hold
  const Values other = random_values({n}, 45, Dtype::f32);
  const Tensor wide = upload(device, exact, {n}, Dtype::f64);
  Tensor narrow = garbage(device, {n});
  backend.nn->cast(wide, narrow);
  Values nearest, sums, narrow_sums;
  for (size_t i = 0; i < exact.size(); ++i) {
    nearest.push_back(static_cast<double>(static_cast<float>(exact[i])));
    sums.push_back(other[i] + exact[i]);
    narrow_sums.push_back(static_cast<double>(static_cast<float>(sums.back())));
  }
  CHECK(download(device, narrow) == nearest);
  Tensor sum = upload(device, other, {n}, Dtype::f64), narrow_sum = upload(device, other, {n});
  backend.nn->add(wide, sum);
  backend.nn->add(wide, narrow_sum);
  CHECK(download(device, sum) == sums);
  CHECK(download(device, narrow_sum) == narrow_sums);
  sum = upload(device, other, {n});
  backend.nn->add(narrow, sum);
  require_close(download(device, sum), moved(other, 1, nearest), 6e-8, 1e-9);  // one rounding
}

/// Views that begin anywhere, whose elements cannot be read by whole vectors.
void shifted_case(Backend& backend) {
  Device& device = *backend.device;
  const Values a = random_values({103}, 46, Dtype::f32), b = random_values({103}, 47, Dtype::f32);
  const Tensor x = upload(device, a, {103});
  const Tensor y = upload(device, b, {103});
  Tensor part = y.slice(3, {99});
  backend.nn->add(x.slice(1, {99}), part);
  Values expected = b;
  for (size_t i = 0; i < 99; ++i) expected[i + 3] += a[i + 1];
  require_close(download(device, y), expected, 6e-8, 1e-9);
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
  begin_step(backend, {.step = 9, .first_sample = 1001});
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
  begin_step(backend, {});
  backend.nn->dropout(args);
  const Values whole = download(device, args.y);
  size_t dropped = 0;
  for (double y : whole) dropped += y == 0;
  CHECK(dropped > 70);  // 105 expected of 210, standard deviation 7
  CHECK(dropped < 140);
  NnOps::Dropout last = args;
  last.x = args.x.rows(7, 3);
  last.y = device.tensor({3, 21}, dtype);
  next_micro_batch(backend, {.first_sample = 7});
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
  set_fresh_state(backend);
  set_loss_scale(backend, {4, 0});  // gradients are divided by it
  for (uint64_t t = 0; t < 3; ++t) {
    const Values g = random_values({n}, 52 + t, Dtype::f32);
    param.grad = upload(device, g, {n});
    begin_step(backend, {.rule = math::update_rule(step)});
    backend.optim->judge_gradients(std::span(&param.grad, 1));
    const ParamGroup group{{&param}, {.weight_decay = step.weight_decay}};
    backend.optim->update(std::span(&group, 1));
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
  const auto judged = [&](std::span<const Tensor> gradients) {
    set_fresh_state(backend);
    begin_step(backend, {.clip_norm = 0.5});
    backend.optim->judge_gradients(gradients);
    return state_of(backend);
  };
  const math::StepState got = judged(tensors);
  CHECK(got.grad_squares == Approx(expected).epsilon(1e-12));
  CHECK(got.grad_norm == Approx(std::sqrt(expected)).epsilon(1e-12));
  CHECK(got.grad_factor == Approx(0.5 / (std::sqrt(expected) + 1e-6)).epsilon(1e-12));
  CHECK_FALSE(math::updates_blocked(got));
  CHECK(got.grad_squares == judged(tensors).grad_squares);
  CHECK(judged({}).grad_squares == 0);
  CHECK(judged({}).grad_factor == 1);
  tensors.push_back(upload(device, {1, std::nan(""), 2}, {3}));
  CHECK(judged(tensors).failed == 2);
  tensors.back() = upload(device, {1, std::numeric_limits<double>::infinity(), 2}, {3});
  CHECK(judged(tensors).failed == 2);
  // 1e30 squared is beyond fp32.
  tensors = {upload(device, {1e30, 1e30}, {2})};
  CHECK(judged(tensors).grad_squares == Approx(2e60).epsilon(1e-6));
}

/// fp16's way: an overflow skips the step and halves the scale; so many steps without one double it.
void loss_scale_case(Backend& backend) {
  Device& device = *backend.device;
  set_fresh_state(backend);
  set_loss_scale(backend, {65536, 1998});
  const math::StepInputs inputs{.dynamic_scale = 1, .rule = {.lr = 1}};
  Param param;
  param.value = upload(device, {1, 2}, {2});
  param.momentum = device.zeros({2});
  const ParamGroup group{{&param}, {}};
  const auto step = [&](double g) {
    param.grad = upload(device, {g, 65536}, {2});
    begin_step(backend, inputs);
    backend.optim->check_finite(param.grad);
    backend.optim->judge_gradients(std::span(&param.grad, 1));
    backend.optim->update(std::span(&group, 1));
    backend.optim->finish_step();
    return state_of(backend);
  };
  CHECK(step(0).loss_scale.good_steps == 1999);
  CHECK(step(-65536).loss_scale.scale == 131072);
  CHECK(download(device, param.value) == Values{2, 0});
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    const double before = state_of(backend).loss_scale.scale;
    const math::StepState state = step(bad);
    CHECK(state.overflow == 1);
    CHECK(state.failed == 0);
    CHECK(state.updates == 2);
    CHECK(state.loss_scale.scale == before / 2);
    CHECK(download(device, param.value) == Values{2, 0});
  }
  CHECK(step(0).overflow == 0);
  CHECK(state_of(backend).updates == 3);                  // without the steps that were skipped
  CHECK(download(device, param.value) == Values{2, -2});  // 65536 at a scale of 32768
  set_fresh_state(backend);
}

}  // namespace

void elementwise_cases(Backend& backend, Dtype dtype) {
  for (float p : {0.0f, 0.4f}) dropout_case(backend, dtype, p);
  dropout_by_rank(backend, dtype);
  if (dtype != Dtype::f32) {
    for (int64_t n : kLengths) cast_case(backend, dtype, n);
    cast_corners(backend, dtype);
    return;
  }
  for (int64_t n : kLengths) wide_case(backend, n);
  shifted_case(backend);
}

void optimizer_cases(Backend& backend) {
  for (int64_t n : kLengths) {
    INFO(n << " elements");
    sgd_case(backend, n, false);
    sgd_case(backend, n, true);
  }
  norm_case(backend);
  loss_scale_case(backend);
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
      require_close(download(device, args.y), expected, dtype == Dtype::f32 ? 2e-7 : rounding_of(dtype), 1e-9);
    }
  }
}

}  // namespace plsc::test
