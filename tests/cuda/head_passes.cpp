#include "head_passes.h"

#include <limits>

#include "kernels/math/bf16.h"
#include "support/head_cases.h"

namespace plsc::test {
namespace {

template <class T>
Tensor put(Device& device, const std::vector<T>& values, const Shape& shape) {
  const Tensor host = Tensor::from(values, shape);
  Tensor t = device.tensor(shape, host.dtype());
  device.copy(host, t);
  return t;
}
Tensor put_random(Device& device, const Shape& shape, uint64_t stream, Dtype dtype = Dtype::f32) {
  const auto values = random_values(shape.elements(), stream);
  if (dtype == Dtype::f32) return put(device, std::vector<float>(values.begin(), values.end()), shape);
  std::vector<bf16_t> bits;
  for (double v : values) bits.push_back({math::float_to_bf16(static_cast<float>(v))});
  return put(device, bits, shape);
}

std::vector<double> doubles(Device& device, const Tensor& t) {
  if (!t.defined()) return {};
  const auto read = device.start_read(t);
  const Tensor& host = read->get();
  std::vector<double> out;
  for (int64_t i = 0; i < host.elements(); ++i) {
    if (host.dtype() == Dtype::f64) out.push_back(host.data<double>()[i]);
    if (host.dtype() == Dtype::f32) out.push_back(double{host.data<float>()[i]});
    if (host.dtype() == Dtype::bf16) out.push_back(double{math::bf16_to_float(host.data<bf16_t>()[i].bits)});
  }
  return out;
}
std::vector<int64_t> integers(Device& device, const Tensor& t) { return device.start_read(t)->get().values<int64_t>(); }

constexpr int64_t kFirst = 5, kNext = 8;

class Rows final : public RowSource {
 public:
  Rows(Device& device, const PassCase& c)
      : weight(put_random(device, {c.stored, c.columns}, 31, c.weights)),
        momentum(put_random(device, {c.stored, c.columns}, 32, c.momentum)),
        active_(c.active),
        lagging_(c.lagging) {
    std::vector<int64_t> last, rows;
    for (int64_t j = 0; j < c.stored; ++j) last.push_back(kFirst + j % 4);
    for (int64_t i = 0; i < c.active; ++i) rows.push_back(i * c.stored / std::max<int64_t>(c.active, 1));
    last_update = put(device, last, {c.stored});
    if (c.indexed) index_ = put(device, rows, {c.active});
    std::vector<float> steps;
    for (int i = 0; i < kNext - kFirst; ++i) {
      for (float element : {-1e-3F, -0.05F, 0.01F, 0.8F}) steps.push_back(element * static_cast<float>(i + 1) / 3);
    }
    steps_ = put(device, steps, {kNext - kFirst, 4});
  }

  int64_t count() const override { return active_; }
  int64_t columns() const override { return weight.dim(1); }
  int64_t stored() const { return weight.dim(0); }
  RowTile open(int64_t begin, int64_t count, RowAccess) override {
    PLSC_CHECK(begin >= 0 && begin + count <= active_);
    const int64_t skipped = index_.defined() ? 0 : begin;
    RowTile tile;
    tile.begin = begin;
    tile.count = count;
    tile.weight_type = weight.dtype();
    tile.weight = weight.rows(skipped, stored() - skipped).raw();
    tile.momentum_type = momentum.dtype();
    tile.momentum = momentum.rows(skipped, stored() - skipped).raw();
    tile.rounding = {9, 4, 1000 + skipped};
    if (index_.defined()) tile.index = index_.data<int64_t>() + begin;
    if (!lagging_) return tile;
    tile.lag.last_update = last_update.data<int64_t>() + skipped;
    tile.lag.steps = static_cast<const math::CatchUpMatrix<float>*>(steps_.raw());
    tile.lag.first = kFirst;
    tile.lag.next = kNext;
    return tile;
  }
  void close(const RowTile&, RowAccess) override {}

  Tensor weight, momentum, last_update;

 private:
  int64_t active_;
  bool lagging_;
  Tensor index_, steps_;
};

Tensor unit_rows(Backend& backend, int64_t rows, int64_t columns) {
  const Tensor x = put_random(*backend.device, {rows, columns}, 33);
  Tensor unit = backend.device->tensor(x.shape()), norm = backend.device->tensor({rows});
  backend.head->row_normalize(x, unit, norm);
  return unit;
}

}  // namespace

PassResult run_passes(Backend& backend, const PassCase& c) {
  Device& device = *backend.device;
  HeadOps& ops = *backend.head;
  Rows rows(device, c);
  const Shape batch{c.samples};

  HeadPass pass;
  pass.x = c.linear ? put_random(device, {c.samples, c.columns}, 33) : unit_rows(backend, c.samples, c.columns);
  std::vector<int64_t> positions, labels;
  for (int64_t i = 0; i < c.samples; ++i) {
    positions.push_back(c.active == 0 || i % 5 == 4 ? -1 : i * 37 % c.active);
    labels.push_back(i);
  }
  pass.position = put(device, positions, batch);
  pass.unit_rows = !c.linear;
  if (!c.linear) pass.logits = {24, 1, 0.5F};
  pass.compute = c.compute;

  HeadSums sums{device.tensor(batch, Dtype::f64), put_random(device, batch, 34), device.tensor(batch), c.fixed_shift};
  Tensor cosine = device.tensor(batch, Dtype::f64);
  ops.target_pass(rows, pass, cosine);
  ops.forward_pass(rows, pass, sums);

  HeadLossArgs loss;
  loss.sum = sums.sum;
  loss.target_cosine = cosine;
  loss.shift = sums.shift;
  loss.max_cosine = sums.max_cosine;
  loss.labels = put(device, labels, batch);
  loss.rule.scale = double{pass.logits.scale};
  if (c.linear) loss.rule.margin.limit = std::numeric_limits<double>::infinity();
  loss.rule.dissected = c.dissected;
  loss.rule.termination = c.dissected ? 0.3 : 0;
  loss.gradient_scale = 0.1;
  loss.log_sum = device.tensor(batch);
  loss.target_gradient = device.tensor(batch);
  loss.result = device.tensor({3}, Dtype::f64);
  ops.loss(loss);

  HeadGradient gradient;
  gradient.log_sum = loss.log_sum;
  gradient.target_gradient = loss.target_gradient;
  gradient.gradient_scale = loss.gradient_scale;
  gradient.dx = device.tensor(pass.x.shape());
  const math::UpdateRule rule{.lr = 0.1F, .weight_decay = 1e-3F, .momentum = 0.9F};
  if (c.keep) {
    gradient.dweight = put_random(device, {c.active, c.columns}, 35);
    gradient.accumulate = true;
  } else {
    gradient.update = rule;
  }
  ops.backward_pass(rows, pass, gradient);
  if (c.keep) ops.update_rows(rows, gradient.dweight, rule);

  constexpr int64_t kTop = 9;
  TopRows top{device.tensor({c.samples, kTop}), device.tensor({c.samples, kTop}, Dtype::i64)};
  ops.top_rows(rows, pass, top);

  PassResult result;
  result.cosine = doubles(device, cosine);
  result.sum = doubles(device, sums.sum);
  result.shift = doubles(device, sums.shift);
  result.max_cosine = doubles(device, sums.max_cosine);
  result.loss = doubles(device, loss.result);
  result.dx = doubles(device, gradient.dx);
  result.dweight = doubles(device, gradient.dweight);
  result.rows = doubles(device, rows.weight);
  result.momentum = doubles(device, rows.momentum);
  result.last_update = integers(device, rows.last_update);
  result.top_cosines = doubles(device, top.cosines);
  result.top_rows = integers(device, top.rows);
  return result;
}

}  // namespace plsc::test
