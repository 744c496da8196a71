// Gradients in double and passes of a fixed order: a batch at once and in pieces, and on other numbers of threads, must
// give the same bits.
#include "cases.h"
#include "values.h"

namespace plsc::test {
namespace {

using Cuts = std::vector<int64_t>;
const std::vector<Cuts> kCuts = {{6}, {4, 2}, {1, 5}, {2, 2, 2}, {1, 1, 1, 1, 1, 1}};

/// Of many sizes, so that plain sums in double would depend on their order.
Values uneven_values(const Shape& shape, uint64_t seed, Dtype dtype) {
  Values v = random_values(shape, seed, Dtype::f32);
  for (size_t i = 0; i < v.size(); ++i)
    v[i] = double{rounded(v[i] * std::pow(0.37, static_cast<double>(i % 11)), dtype)};
  return v;
}

/// body(first row, rows, whether to add) for each piece of a batch of 6.
template <class Body>
void for_pieces(const Cuts& cuts, const Body& body) {
  int64_t first = 0;
  for (const int64_t rows : cuts) {
    body(first, rows, first > 0);
    first += rows;
  }
}

std::vector<Values> conv_results(Backend& backend, ConvSpec spec) {
  Device& device = *backend.device;
  spec.batch = 6;
  spec.fixed_order = true;
  const Shape x_shape{6, spec.height, spec.width, spec.in_channels},
      y_shape{6, spec.out_height(), spec.out_width(), spec.out_channels},
      w_shape{spec.out_channels, spec.in_channels, spec.kernel, spec.kernel};
  const Tensor x = upload(device, uneven_values(x_shape, 1, spec.dtype), x_shape, spec.dtype);
  const Tensor dy = upload(device, uneven_values(y_shape, 2, spec.dtype), y_shape, spec.dtype);
  const Tensor w = upload(device, random_values(w_shape, 3, Dtype::f32), w_shape);
  std::vector<Values> first;
  for (const Cuts& cuts : kCuts) {
    Tensor y = garbage(device, y_shape, spec.dtype), dx = garbage(device, x_shape, spec.dtype);
    Tensor dw = garbage(device, w_shape, Dtype::f64);
    for_pieces(cuts, [&](int64_t at, int64_t rows, bool add) {
      ConvSpec piece = spec;
      piece.batch = rows;
      const auto op = backend.nn->make_conv(piece);
      Tensor y_rows = y.rows(at, rows), dx_rows = dx.rows(at, rows);
      op->forward(x.rows(at, rows), w, y_rows);
      op->backward_data(dy.rows(at, rows), w, dx_rows);
      op->backward_weight(x.rows(at, rows), dy.rows(at, rows), dw, add);
    });
    const std::vector<Values> got{download(device, y), download(device, dx), download(device, dw)};
    if (first.empty()) first = got;
    CHECK(got == first);
  }
  // Plain passes are checked against loops elsewhere; each has fp32 roundings of a few hundred terms.
  spec.fixed_order = false;
  const auto plain = backend.nn->make_conv(spec);
  Tensor y = device.tensor(y_shape), dx = device.tensor(x_shape), dw = device.tensor(w_shape);
  plain->forward(x, w, y);
  plain->backward_data(dy, w, dx);
  plain->backward_weight(x, dy, dw, false);
  const Tensor* expected[] = {&y, &dx, &dw};
  for (size_t i = 0; i < first.size(); ++i) require_close(first[i], download(device, *expected[i]), kFp32, kFp32);
  return first;
}

std::vector<Values> linear_results(Backend& backend) {
  Device& device = *backend.device;
  LinearSpec spec{6, 2, 2, 40, 24, true};
  spec.fixed_order = true;
  const Shape x_shape{6, 2, 2, 40}, w_shape{24, 160};
  const Tensor x = upload(device, uneven_values(x_shape, 1, Dtype::f32), x_shape);
  const Tensor w = upload(device, random_values(w_shape, 2, Dtype::f32), w_shape);
  const Tensor bias = upload(device, random_values({24}, 3, Dtype::f32), {24});
  const Tensor dy = upload(device, uneven_values({6, 24}, 4, Dtype::f32), {6, 24});
  std::vector<Values> first;
  for (const Cuts& cuts : kCuts) {
    Tensor y = garbage(device, {6, 24}), dx = garbage(device, x_shape);
    Tensor dw = garbage(device, w_shape, Dtype::f64), db = garbage(device, {24}, Dtype::f64);
    for_pieces(cuts, [&](int64_t at, int64_t rows, bool add) {
      LinearSpec piece = spec;
      piece.batch = rows;
      const auto op = backend.nn->make_linear(piece);
      Tensor y_rows = y.rows(at, rows), dx_rows = dx.rows(at, rows);
      op->forward(x.rows(at, rows), w, bias, y_rows);
      op->backward_data(dy.rows(at, rows), w, dx_rows);
      op->backward_weight(x.rows(at, rows), dy.rows(at, rows), dw, db, add);
    });
    const std::vector<Values> got{download(device, y), download(device, dx), download(device, dw),
                                  download(device, db)};
    if (first.empty()) first = got;
    CHECK(got == first);
  }
  spec.fixed_order = false;
  const auto plain = backend.nn->make_linear(spec);
  Tensor y = device.tensor({6, 24}), dx = device.tensor(x_shape), dw = device.tensor(w_shape), db = device.tensor({24});
  plain->forward(x, w, bias, y);
  plain->backward_data(dy, w, dx);
  plain->backward_weight(x, dy, dw, db, false);
  const Tensor* expected[] = {&y, &dx, &dw, &db};
  for (size_t i = 0; i < first.size(); ++i) require_close(first[i], download(device, *expected[i]), kFp32, kFp32);
  return first;
}

/// Statistics and backward sums of the whole batch and of its pieces, which are added up.
std::vector<Values> norm_sums(Backend& backend) {
  Device& device = *backend.device;
  const Shape shape{6, 5, 3, 20};
  const Tensor x = upload(device, uneven_values(shape, 5, Dtype::f32), shape);
  const Tensor dy = upload(device, uneven_values(shape, 6, Dtype::f32), shape);
  std::vector<Values> first;
  for (const Cuts& cuts : kCuts) {
    Tensor statistics = device.zeros({2, 20}, Dtype::f64), sums = device.zeros({2, 20}, Dtype::f64),
           slope = device.zeros({20}, Dtype::f64);
    for_pieces(cuts, [&](int64_t at, int64_t rows, bool) {
      Tensor part = device.tensor({2, 20}, Dtype::f64);
      backend.nn->batch_norm_stats(x.rows(at, rows), part);
      backend.nn->add(part, statistics);
      BatchNormBackward b;
      b.forward.x = x.rows(at, rows);
      b.forward.mean_rstd = upload(device, Values(40, 1.0), {2, 20});  // rstd 1: the sums are not scaled
      b.forward.activation = Activation::prelu;
      b.forward.slope = upload(device, Values(20, 0.3), {20});
      b.dy = dy.rows(at, rows);
      b.sums = device.tensor({2, 20}, Dtype::f64);
      b.dslope = device.tensor({20}, Dtype::f64);
      backend.nn->batch_norm_backward_sums(b);
      backend.nn->add(b.sums, sums);
      backend.nn->add(b.dslope, slope);
    });
    const std::vector<Values> got{download(device, statistics), download(device, sums), download(device, slope)};
    if (first.empty()) first = got;
    CHECK(got == first);
  }
  return first;
}

}  // namespace

std::vector<std::vector<double>> exact_sum_cases(Backend& backend) {
  std::vector<std::vector<double>> results = linear_results(backend);
  for (const Values& v : norm_sums(backend)) results.push_back(v);
  const ConvSpec specs[] = {
      {.height = 9, .width = 7, .in_channels = 1, .out_channels = 20},
      {.height = 8, .width = 8, .in_channels = 3, .out_channels = 16, .stride = 2},
      {.height = 7, .width = 7, .in_channels = 24, .out_channels = 40, .stride = 2},
      {.height = 6, .width = 6, .in_channels = 16, .out_channels = 32, .kernel = 1, .stride = 2, .pad = 0},
      {.height = 2, .width = 2, .in_channels = 64, .out_channels = 64},
      {.height = 4, .width = 4, .in_channels = 64, .out_channels = 64, .stride = 2},
  };
  for (const ConvSpec& spec : specs) {
    INFO(spec.in_channels << " to " << spec.out_channels << " channels, stride " << spec.stride);
    for (const Values& v : conv_results(backend, spec)) results.push_back(v);
  }
  return results;
}

}  // namespace plsc::test
