// Batch norm's ops against double precision: statistics that must not cancel, and every fusion of the apply and
// backward passes.
#include <optional>

#include "cases.h"
#include "values.h"

namespace plsc::test {
namespace {

struct Moments {
  Values mean, m2;
};

Moments moments_of(const Values& x, int64_t channels) {
  const size_t c_count = static_cast<size_t>(channels), rows = x.size() / c_count;
  Moments m{Values(c_count), Values(c_count)};
  for (size_t i = 0; i < x.size(); ++i) m.mean[i % c_count] += x[i] / static_cast<double>(rows);
  for (size_t i = 0; i < x.size(); ++i) {
    const double d = x[i] - m.mean[i % c_count];
    m.m2[i % c_count] += d * d;
  }
  return m;
}

Values joined(const Values& a, const Values& b) {
  Values out = a;
  out.insert(out.end(), b.begin(), b.end());
  return out;
}

/// The sums of `x` and of its squares, and how far a backend's may be from them.
struct ColumnSums {
  Values sums, margin;
  double variance_margin = 0;
};

/// The CPU's sums are exact but for half a quantum of 2^-32 a term. A GPU adds distances d to the first row, eight in
/// fp32: one rounding of d and seven of partial sums, each 2^-24 of at most the sum of the eight distances (ten of the
/// squares'). The first row p comes back in double: x^2 = d^2 + 2 p d + p^2. The variance has nothing of p.
ColumnSums sums_of(const Device& device, const Values& x, int64_t channels) {
  const auto width = static_cast<size_t>(channels);
  const double rows = static_cast<double>(x.size() / width);
  ColumnSums s{Values(2 * width, 0.0), Values(2 * width), 0};
  double farthest = 0, largest = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    s.sums[i % width] += x[i];
    s.sums[width + i % width] += x[i] * x[i];
    farthest = std::max(farthest, std::abs(x[i] - x[i % width]));
    largest = std::max(largest, std::abs(x[i]));
  }
  const bool exact = device.kind() == DeviceKind::cpu;
  const double unit = std::ldexp(1.0, -24);
  const double sum = exact ? 1.2e-10 : 8 * unit * farthest;
  const double squares = exact ? 1.2e-10 : 10 * unit * farthest * farthest + 2 * largest * sum;
  for (size_t c = 0; c < width; ++c) {
    s.margin[c] = rows * sum;
    s.margin[width + c] = rows * squares;
  }
  s.variance_margin = 26 * unit * farthest * farthest + 3e-10 * (1 + largest) + 1e-13 * largest * largest;
  return s;
}

/// |got - expected| <= margin, everywhere: one assertion, because there may be many sums.
void require_within(const Values& got, const Values& expected, const Values& margin) {
  REQUIRE(got.size() == expected.size());
  size_t outside = got.size();
  for (size_t i = got.size(); i-- > 0;) {
    if (!(std::abs(got[i] - expected[i]) <= margin[i] + 1e-12 * std::abs(expected[i]))) outside = i;
  }
  if (outside == got.size()) return;
  FAIL("number " << outside << ": " << got[outside] << ", expected " << expected[outside] << " to within "
                 << margin[outside]);
}

void check_statistics(Backend& backend, const Shape& shape, Dtype dtype, double mean) {
  Device& device = *backend.device;
  const int64_t channels = shape[shape.size() - 1];
  const auto width = static_cast<size_t>(channels);
  const Values x = random_values(shape, 11, dtype, mean);
  const auto rows = static_cast<double>(shape.elements() / channels);
  Tensor stats = garbage(device, {2, channels}, Dtype::f64);
  backend.nn->batch_norm_stats(upload(device, x, shape, dtype), stats);
  const Values got = download(device, stats);
  const ColumnSums expected = sums_of(device, x, channels);
  require_within(got, expected.sums, expected.margin);
  const Moments moments = moments_of(x, channels);
  Values variance, true_variance;
  for (size_t c = 0; c < width; ++c) {
    variance.push_back((got[width + c] - got[c] / rows * got[c]) / rows);
    true_variance.push_back(moments.m2[c] / rows);
  }
  require_within(variance, true_variance, Values(width, expected.variance_margin));
}

/// What running statistics become, and normalisation by them.
void check_running(Backend& backend) {
  Device& device = *backend.device;
  const int64_t channels = 70;
  const Values x = random_values({9, channels}, 13, Dtype::f32, 2);
  const Moments m = moments_of(x, channels);
  const Values mean = random_values({channels}, 14, Dtype::f32),
               variance = random_values({channels}, 15, Dtype::f32, 2);
  Values normal = mean, new_mean = mean, new_variance = variance, sums(static_cast<size_t>(2 * channels + 1), 0.0);
  for (size_t i = 0; i < x.size(); ++i) {
    sums[i % 70] += x[i];
    sums[70 + i % 70] += x[i] * x[i];
  }
  sums.back() = 9;
  for (size_t c = 0; c < mean.size(); ++c) {
    normal.push_back(1 / std::sqrt(variance[c] + 1e-5));
    new_mean[c] += 0.1 * (m.mean[c] - mean[c]);
    new_variance[c] += 0.1 * (m.m2[c] / 8 - variance[c]);
  }
  Tensor running_mean = upload(device, mean, {channels}), running_variance = upload(device, variance, {channels});
  Tensor mean_rstd = garbage(device, {2, channels});
  backend.nn->batch_norm_constants(running_mean, running_variance, 1e-5f, mean_rstd);
  require_close(download(device, mean_rstd), normal, 2e-7, 0);
  const Tensor packed = upload(device, sums, {2 * channels + 1}, Dtype::f64);
  const auto fold = [&](double blocked) {
    Tensor flags = step_flags(backend);
    device.copy(Tensor::from<double>({0, blocked}, {2}), flags);
    backend.nn->batch_norm_fold(packed, 0.1f, running_mean, running_variance);
  };
  fold(1);
  CHECK(download(device, running_mean) == mean);
  CHECK(download(device, running_variance) == variance);
  fold(0);
  require_close(download(device, running_mean), new_mean, 1e-6, 1e-6);
  require_close(download(device, running_variance), new_variance, 1e-6, 1e-6);
}

/// Rows of three ranks of different sizes, one empty: merged they are the statistics of all rows.
void check_merge(Backend& backend) {
  Device& device = *backend.device;
  const int64_t channels = 17, counts[] = {5, 0, 40, 1};
  const Values all = random_values({46, channels}, 12, Dtype::f32, 1000);
  Tensor gathered = device.tensor({4, 2 * channels + 1}, Dtype::f64);
  int64_t first = 0;
  for (int64_t r = 0; r < 4; ++r) {
    const int64_t rows = counts[r];
    Values sums(static_cast<size_t>(2 * channels + 1), 0.0);
    sums.back() = static_cast<double>(rows);
    for (int64_t i = first * channels; i < (first + rows) * channels; ++i) {
      const double v = all[static_cast<size_t>(i)];
      sums[static_cast<size_t>(i % channels)] += v;
      sums[static_cast<size_t>(channels + i % channels)] += v * v;
    }
    Tensor row = gathered.rows(r, 1);
    device.copy(upload(device, sums, row.shape(), Dtype::f64), row);
    first += rows;
  }
  Tensor mean_rstd = garbage(device, {2, channels});
  backend.nn->batch_norm_merge(gathered, 1e-5f, mean_rstd);
  const Moments expected = moments_of(all, channels);
  Values rstd;
  for (double m2 : expected.m2) rstd.push_back(1 / std::sqrt(m2 / 46 + 1e-5));
  const Values normal = download(device, mean_rstd);
  // The mean is rounded to fp32; M2 (about 15) keeps 1e-8 of squares that add up to 5e7.
  require_close(Values(normal.begin(), normal.begin() + channels), expected.mean, 1e-7, 0);
  require_close(Values(normal.begin() + channels, normal.end()), rstd, 1e-7, 0);
}

/// One combination of what the apply op fuses.
struct Fusion {
  Activation activation = Activation::none;
  bool residual = false;
  int64_t slopes = 0;  // 0: no PReLU, 1: shared, else one per channel
  bool gamma = true;
  bool fp32_output = false;
  bool add = false, dresidual = false;
  bool constant_statistics = false;
};

struct Problem {
  Problem(const Shape& s, const Fusion& f, Dtype dtype)
      : shape(s), channels(s[s.size() - 1]), rows(s.elements() / channels), fusion(f), x_type(dtype) {
    y_type = f.fp32_output ? Dtype::f32 : dtype;
    x = random_values(s, 21, dtype, 3);
    dy = random_values(s, 22, y_type);
    residual = random_values(s, 23, dtype);
    add = random_values(s, 24, dtype);
    gamma = random_values({channels}, 25, Dtype::f32, 1.5);
    beta = random_values({channels}, 26, Dtype::f32);
    slope = random_values({std::max<int64_t>(f.slopes, 1)}, 27, Dtype::f32, 0.3);
    if (!f.gamma) gamma.assign(gamma.size(), 1.0);
    const Moments m = moments_of(x, channels);
    for (size_t c = 0; c < gamma.size(); ++c) {
      mean.push_back(static_cast<double>(static_cast<float>(m.mean[c])));
      rstd.push_back(static_cast<double>(static_cast<float>(1 / std::sqrt(m.m2[c] / double(rows) + 1e-5))));
    }
  }
  Shape shape;
  int64_t channels, rows;
  Fusion fusion;
  Dtype x_type, y_type;
  Values x, dy, residual, add, gamma, beta, slope, mean, rstd;

  double slope_of(size_t c) const { return slope[slope.size() == 1 ? 0 : c]; }
};

struct Result {
  Values y, sums, dslope, dx, dz;
  Values z;
};

/// The textbook, one element after the other.
Result expected_of(const Problem& p) {
  const auto channels = static_cast<size_t>(p.channels);
  Result r{Values(p.x.size()), Values(2 * channels), Values(p.slope.size()),
           Values(p.x.size()), Values(p.x.size()),   {}};
  for (size_t i = 0; i < p.x.size(); ++i) {
    const size_t c = i % channels;
    const double xhat = (p.x[i] - p.mean[c]) * p.rstd[c];
    const double z = p.gamma[c] * xhat + p.beta[c] + (p.fusion.residual ? p.residual[i] : 0);
    r.z.push_back(z);
    const bool prelu = p.fusion.activation == Activation::prelu;
    const double below = prelu ? p.slope_of(c) : p.fusion.activation == Activation::relu ? 0 : 1;
    r.y[i] = z > 0 ? z : below * z;
    r.dz[i] = z > 0 ? p.dy[i] : below * p.dy[i];
    if (prelu && z <= 0) r.dslope[p.slope.size() == 1 ? 0 : c] += z * p.dy[i];
    r.sums[c] += r.dz[i];
    r.sums[channels + c] += r.dz[i] * xhat;
  }
  for (size_t i = 0; i < p.x.size(); ++i) {
    const size_t c = i % channels;
    const double xhat = (p.x[i] - p.mean[c]) * p.rstd[c], n = static_cast<double>(p.rows);
    double d = r.dz[i];
    if (!p.fusion.constant_statistics) d -= r.sums[c] / n + xhat * r.sums[channels + c] / n;
    r.dx[i] = p.gamma[c] * p.rstd[c] * d + (p.fusion.add ? p.add[i] : 0);
  }
  return r;
}

BatchNormApply apply_args(Device& device, const Problem& p) {
  BatchNormApply a;
  a.x = upload(device, p.x, p.shape, p.x_type);
  a.mean_rstd = upload(device, joined(p.mean, p.rstd), {2, p.channels});
  if (p.fusion.gamma) a.gamma = upload(device, p.gamma, {p.channels});
  a.beta = upload(device, p.beta, {p.channels});
  if (p.fusion.residual) a.residual = upload(device, p.residual, p.shape, p.x_type);
  a.activation = p.fusion.activation;
  if (p.fusion.slopes > 0) a.slope = upload(device, p.slope, {static_cast<int64_t>(p.slope.size())});
  a.y = garbage(device, p.shape, p.y_type);
  return a;
}

/// The same pass with the statistics of what it writes.
void check_measured(Backend& backend, BatchNormApply a, const Values& y) {
  Device& device = *backend.device;
  const int64_t channels = a.mean_rstd.dim(1);
  a.y = garbage(device, a.y.shape(), a.y.dtype());
  a.sums = garbage(device, {2, channels}, Dtype::f64);
  backend.nn->batch_norm_apply(a);
  CHECK(download(device, a.y) == y);
  const ColumnSums expected = sums_of(device, y, channels);
  require_within(download(device, a.sums), expected.sums, expected.margin);
}

void check_fusion(Backend& backend, const Shape& shape, const Fusion& fusion, Dtype dtype) {
  Device& device = *backend.device;
  const Problem p(shape, fusion, dtype);
  const Result expected = expected_of(p);
  BatchNormBackward b;
  b.forward = apply_args(device, p);
  backend.nn->batch_norm_apply(b.forward);
  const Values y = download(device, b.forward.y);
  require_stored(y, expected.y, p.y_type);
  check_measured(backend, b.forward, y);

  b.dy = upload(device, p.dy, shape, p.y_type);
  b.sums = garbage(device, {2, p.channels}, Dtype::f64);
  if (fusion.slopes > 0) b.dslope = garbage(device, b.forward.slope.shape(), Dtype::f64);
  backend.nn->batch_norm_backward_sums(b);
  // An element whose z is zero to rounding may take the other side of the kink: random z leave no such element.
  require_close(download(device, b.sums), expected.sums, 1e-5, 1e-5);
  if (fusion.slopes > 0) require_close(download(device, b.dslope), expected.dslope, 1e-5, 1e-5);

  b.count = fusion.constant_statistics ? 0 : static_cast<double>(p.rows);
  if (fusion.add) b.add = upload(device, p.add, shape, dtype);
  b.dx = garbage(device, shape, dtype);
  if (fusion.dresidual) b.dresidual = garbage(device, shape, dtype);
  backend.nn->batch_norm_backward_apply(b);
  require_stored(download(device, b.dx), expected.dx, dtype);
  if (fusion.dresidual) require_stored(download(device, b.dresidual), expected.dz, dtype);
}

std::vector<Fusion> fusions(int64_t channels) {
  const auto none = Activation::none, relu = Activation::relu, prelu = Activation::prelu;
  return {
      {none, false, 0, true, false, false, false, false},
      {none, true, 0, true, false, true, true, false},
      {relu, false, 0, true, false, true, false, false},
      {relu, true, 0, true, false, false, true, false},
      {prelu, false, channels, true, false, false, false, false},
      {prelu, false, 1, true, false, true, false, false},
      {prelu, true, channels, true, false, true, true, false},
      {none, false, 0, false, true, false, false, false},
      {relu, true, 0, false, true, true, true, true},
      {prelu, false, channels, true, false, false, false, true},
  };
}

}  // namespace

void norm_statistics_cases(Backend& backend, Dtype dtype) {
  const Shape shapes[] = {{1, 1, 1, 1}, {3, 1, 1, 17},   {7, 3},   {2, 5, 7, 64}, {3, 33, 31, 3},
                          {5, 1024},    {40, 40, 13, 1}, {301, 8}, {70, 100},     {20, 513}};
  for (const Shape& shape : shapes) {
    // bf16 near 1000 has a spacing of 4: the data are then whatever the rounding left, and the check is the same.
    for (double mean : {0.0, 1000.0}) {
      INFO(shape.text() << " around " << mean << ", " << dtype_name(dtype));
      check_statistics(backend, shape, dtype, mean);
    }
  }
  if (dtype == Dtype::f32) {
    check_merge(backend);
    check_running(backend);
  }
}

void norm_apply_cases(Backend& backend, Dtype dtype) {
  const Shape shapes[] = {{2, 1, 1, 1},   {9, 17},   {3, 5, 5, 3}, {2, 4, 4, 64}, {3, 1500},
                          {7, 19, 9, 32}, {1201, 1}, {301, 8},     {70, 100},     {20, 513}};
  for (const Shape& shape : shapes) {
    int which = 0;
    for (const Fusion& fusion : fusions(shape[shape.size() - 1])) {
      INFO(shape.text() << ", fusion " << which++ << ", " << dtype_name(dtype));
      check_fusion(backend, shape, fusion, dtype);
    }
  }
}

namespace {

/// statistics, merge, apply: y . r, as a function of x, the residual and the slope.
double norm_loss(Backend& backend, const Problem& p, const Values& x, const Values& residual, const Values& slope) {
  Problem moved_problem = p;
  moved_problem.x = x;
  moved_problem.residual = residual;
  moved_problem.slope = slope;
  Device& device = *backend.device;
  BatchNormApply a = apply_args(device, moved_problem);
  Tensor packed =
      upload(device, Values(static_cast<size_t>(2 * p.channels + 1), double(p.rows)), {2 * p.channels + 1}, Dtype::f64);
  Tensor stats = packed.slice(0, {2, p.channels});
  backend.nn->batch_norm_stats(a.x, stats);
  backend.nn->batch_norm_merge(packed.reshape({1, 2 * p.channels + 1}), 1e-5f, a.mean_rstd);
  backend.nn->batch_norm_apply(a);
  return dot(download(device, a.y), p.dy);
}

void check_difference(Backend& backend, const Fusion& fusion) {
  Device& device = *backend.device;
  Problem p({4, 5, 3, 17}, fusion, Dtype::f32);
  // Elements that the step might move across the kink carry no weight in the loss.
  const Values z = expected_of(p).z;
  for (size_t i = 0; i < z.size(); ++i) p.dy[i] = std::abs(z[i]) < 0.05 ? 0 : p.dy[i];
  BatchNormBackward b;
  b.forward = apply_args(device, p);
  backend.nn->batch_norm_apply(b.forward);
  b.dy = upload(device, p.dy, p.shape);
  b.sums = device.tensor({2, p.channels}, Dtype::f64);
  if (fusion.slopes > 0) b.dslope = device.tensor(b.forward.slope.shape(), Dtype::f64);
  backend.nn->batch_norm_backward_sums(b);
  b.count = static_cast<double>(p.rows);
  b.dx = device.tensor(p.shape);
  if (fusion.residual) b.dresidual = device.tensor(p.shape);
  backend.nn->batch_norm_backward_apply(b);

  const Values vx = random_values(p.shape, 31, Dtype::f32), vr = random_values(p.shape, 32, Dtype::f32);
  const Values vs = random_values({static_cast<int64_t>(p.slope.size())}, 33, Dtype::f32);
  double slope = dot(download(device, b.dx), vx);
  if (fusion.residual) slope += dot(download(device, b.dresidual), vr);
  if (fusion.slopes > 0) slope += dot(download(device, b.dslope), vs);
  const double h = 2e-3;
  const auto at = [&](double t) {
    return norm_loss(backend, p, moved(p.x, t, vx), moved(p.residual, t, vr), moved(p.slope, t, vs));
  };
  // A thousand terms around 1: fp32 gives each loss an error of 1e-5, the quotient one of a few 1e-3.
  CHECK(slope == Approx((at(h) - at(-h)) / (2 * h)).epsilon(1e-3).margin(1e-2));
}

}  // namespace

void norm_large_cases(Backend& backend, Dtype dtype) {
  const auto relu = Activation::relu, prelu = Activation::prelu;
  for (const Shape& shape : {Shape{2900, 513}, Shape{2, 70000}}) {
    INFO(shape.text() << ", " << dtype_name(dtype));
    check_statistics(backend, shape, dtype, 10);
    check_fusion(backend, shape, {relu, true, 0, true, false, true, true, false}, dtype);
    check_fusion(backend, shape, {prelu, true, shape[1], true, false, false, false, false}, dtype);
  }
}

void norm_difference_cases(Backend& backend) {
  check_difference(backend, {Activation::none, false, 0});
  check_difference(backend, {Activation::relu, true, 0});
  check_difference(backend, {Activation::prelu, false, 17});
  check_difference(backend, {Activation::prelu, false, 1});
}

}  // namespace plsc::test
