// Sparse sums of gradients against loops in double: the largest elements, what is kept of the rest, and the sum.
#include <bit>
#include <limits>
#include <numeric>

#include "kernels/cpu/topk.h"
#include "parity/backend/cases.h"
#include "parity/backend/values.h"
#include "support/step_state.h"

namespace plsc::test {
namespace {

constexpr double kScale = 8;
constexpr float kMomentum = 0.875F, kDecay = 0.25F, kTrust = 0.75F;
constexpr int32_t kFirst = 1000;

std::vector<int32_t> download_ints(Device& device, const Tensor& t) {
  Tensor host(host_allocator(), t.shape(), Dtype::i32);
  device.copy(t, host);
  device.synchronize();
  return host.values<int32_t>();
}

Tensor upload_ints(Device& device, const std::vector<int32_t>& values, const Shape& shape) {
  const Tensor host = Tensor::from(values, shape);
  Tensor t = device.tensor(shape, Dtype::i32);
  device.copy(host, t);
  return t;
}

void begin(Backend& backend, bool nesterov, double dynamic = 0) {
  set_fresh_state(backend);
  set_loss_scale(backend, {kScale, 0});
  begin_step(backend, {.dynamic_scale = dynamic,
                       .rule = {.lr = 0.5F, .momentum = kMomentum, .trust = kTrust, .nesterov = nesterov}});
}

/// A part and the same in double.
struct Part {
  Part(Device& on, int64_t elements, int64_t places, uint64_t seed) : n(elements), k(places), device(on) {
    const Shape shape{n};
    const auto draw = [&](uint64_t which) { return random_values(shape, seed * 10 + which, Dtype::f32); };
    set(draw(1), draw(2), draw(3), draw(4));
    room = garbage(device, shape);
    sent.indices = upload_ints(device, std::vector<int32_t>(static_cast<size_t>(k), 7), {k});
    sent.bits = upload_ints(device, std::vector<int32_t>(static_cast<size_t>(k), 7), {k});
    sent.first = kFirst;
  }
  void set(Values gradients, Values weights, Values velocities, Values rests) {
    g = std::move(gradients), w = std::move(weights), u = std::move(velocities), v = std::move(rests);
    Values scaled = g;
    for (double& x : scaled) x *= kScale;
    part.grad = upload(device, scaled, {n});
    part.value = upload(device, w, {n});
    part.velocity = upload(device, u, {n});
    part.unsent = upload(device, v, {n});
  }
  /// By LARS, as one of so many nodes: the norms are taken of what is there.
  void take_norms(Backend& backend, int64_t nodes) {
    part.nodes = nodes;
    part.squares = garbage(device, {2}, Dtype::f64);
    Tensor of_value = part.squares.slice(0, {1}), of_gradient = part.squares.slice(1, {1});
    backend.optim->squares(part.value, of_value);
    backend.optim->squares(part.grad, of_gradient);
    const double norm = std::sqrt(dot(w, w)), all = std::sqrt(static_cast<double>(nodes) * dot(g, g));
    ratio = static_cast<double>(kTrust) * norm / (all + static_cast<double>(kDecay) * norm);
  }
  /// The recurrence, element by element.
  void accumulate(bool nesterov) {
    const double decay = static_cast<double>(kDecay) / static_cast<double>(part.nodes);
    for (size_t i = 0; i < u.size(); ++i) {
      const double d = ratio * (g[i] + decay * w[i]), m = static_cast<double>(kMomentum);
      u[i] = m * u[i] + d;
      v[i] += nesterov ? d + m * u[i] : u[i];
    }
  }
  int64_t n, k;
  double ratio = 1;
  Device& device;
  Values g, w, u, v;
  UnsentPart part;
  SentPart sent;
  Tensor room;
};

/// Takes, and compares what is taken, left and lost with a sort.
void select_case(Backend& backend, int64_t n, int64_t k, bool nesterov, int64_t lars_nodes = 0) {
  INFO(k << " of " << n << (nesterov ? ", nesterov" : "") << ", LARS of " << lars_nodes << " nodes");
  begin(backend, nesterov);
  Part p(*backend.device, n, k, static_cast<uint64_t>(n + k));
  if (lars_nodes > 0) p.take_norms(backend, lars_nodes);
  const Values u_before = p.u, v_before = p.v;
  backend.compress->select(p.part, kDecay, p.room, p.sent);
  // Nothing is changed before the step is judged.
  REQUIRE(download(p.device, p.part.velocity) == u_before);
  REQUIRE(download(p.device, p.part.unsent) == v_before);
  p.accumulate(nesterov);
  std::vector<size_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return std::abs(p.v[a]) > std::abs(p.v[b]); });
  const std::vector<int32_t> indices = download_ints(p.device, p.sent.indices),
                             bits = download_ints(p.device, p.sent.bits);
  const int64_t taken = std::min(n, k);
  // Values of about 1 with roundings of 6e-8: elements that differ by less may change places at the cut.
  const double cut = taken > 0 ? std::abs(p.v[order[static_cast<size_t>(taken) - 1]]) : 0;
  std::vector<bool> sent(static_cast<size_t>(n));
  for (size_t i = 0; i < static_cast<size_t>(k); ++i) {
    if (static_cast<int64_t>(i) >= taken) {
      REQUIRE(indices[i] == math::kNothingSent);
      REQUIRE(bits[i] == 0);
      continue;
    }
    if (i > 0) REQUIRE(indices[i] > indices[i - 1]);
    const auto at = static_cast<size_t>(indices[i] - kFirst);
    REQUIRE(at < static_cast<size_t>(n));
    sent[at] = true;
    REQUIRE(std::abs(p.v[at]) >= cut - 1e-6);
    REQUIRE(std::abs(static_cast<double>(std::bit_cast<float>(bits[i])) - p.v[at]) <= 1e-6);
  }
  backend.compress->keep_rest(p.part, kDecay, p.sent);
  for (size_t i = 0; i < sent.size(); ++i) {
    if (sent[i]) p.u[i] = p.v[i] = 0;
  }
  // Three roundings of values of about 1.
  require_close(download(p.device, p.part.velocity), p.u, 1e-6, 1e-6);
  require_close(download(p.device, p.part.unsent), p.v, 1e-6, 1e-6);
  for (size_t i = 0; i < sent.size(); ++i) {
    if (sent[i]) REQUIRE(download(p.device, p.part.unsent.slice(static_cast<int64_t>(i), {1}))[0] == 0);
    if (i > 200) break;
  }
}

/// Of equal magnitudes the first ones, whatever their sign; zeros never.
void equal_case(Backend& backend, int64_t n, int64_t k) {
  begin(backend, false);
  Part p(*backend.device, n, k, 5);
  const Values zeros(static_cast<size_t>(n), 0.0);
  Values g = zeros;
  int64_t ones = 0;
  for (size_t i = 0; i < g.size(); ++i) {
    if (i % 97 == 11) g[i] = 3;
    if (i % 97 != 11 && i % 4 != 1) g[i] = i % 3 == 0 ? -1 : 1;
    ones += std::abs(g[i]) == 1;
  }
  p.set(g, zeros, zeros, zeros);
  backend.compress->select(p.part, 0, p.room, p.sent);
  std::vector<int32_t> expected;
  const int64_t large = std::count(g.begin(), g.end(), 3.0);
  REQUIRE(large + ones > k);
  int64_t left = k - large;
  for (size_t i = 0; i < g.size(); ++i) {
    if (std::abs(g[i]) == 1 && left-- <= 0) continue;
    if (g[i] != 0) expected.push_back(kFirst + static_cast<int32_t>(i));
  }
  REQUIRE(download_ints(p.device, p.sent.indices) == expected);
  // Fewer that are not 0 than places.
  Values few = zeros;
  few[static_cast<size_t>(n - 1)] = -1e-30;
  p.set(few, zeros, zeros, zeros);
  backend.compress->select(p.part, 0, p.room, p.sent);
  const std::vector<int32_t> indices = download_ints(p.device, p.sent.indices);
  REQUIRE(indices[0] == kFirst + static_cast<int32_t>(n) - 1);
  REQUIRE(std::count(indices.begin(), indices.end(), math::kNothingSent) == k - 1);
}

/// Where a sample has the largest alone, few elements reach the bound that it gives: others are found all the same.
void misled_case(Backend& backend) {
  begin(backend, false);
  const int64_t n = 100'003, k = 200, cell = n / kernels::sample_size(n);
  Part p(*backend.device, n, k, 6);
  const Values zeros(static_cast<size_t>(n), 0.0);
  Values g = zeros;
  std::vector<int32_t> expected;
  for (int64_t i = 0; i < n; ++i) g[static_cast<size_t>(i)] = static_cast<double>(i) / static_cast<double>(2 * n);
  for (int64_t i = 0; i < 60; ++i) {
    const int64_t place = kernels::sampled_place(i, cell);
    g[static_cast<size_t>(place)] = -9;
    expected.push_back(kFirst + static_cast<int32_t>(place));
  }
  std::vector<float> narrow(g.begin(), g.end());
  const uint32_t bound = kernels::sampled_bound(narrow.data(), n, k);
  REQUIRE(bound == (std::bit_cast<uint32_t>(-9.0F) & 0x7FFFFFFFU));
  for (int64_t i = n - (k - 60); i < n; ++i) expected.push_back(kFirst + static_cast<int32_t>(i));
  p.set(g, zeros, zeros, zeros);
  backend.compress->select(p.part, 0, p.room, p.sent);
  REQUIRE(download_ints(p.device, p.sent.indices) == expected);
}

/// What is not finite is sent and found, and the step then changes nothing.
void not_finite_case(Backend& backend, double bad, bool lars) {
  INFO(bad << (lars ? " with LARS" : ""));
  begin(backend, false, 1);
  Device& device = *backend.device;
  Part p(device, 40'000, 3, 9);
  Values g = p.g;
  g[39'999] = bad;
  p.set(g, p.w, p.u, p.v);
  const Values u = p.u, v = p.v;
  if (lars) p.take_norms(backend, 2);
  backend.compress->select(p.part, kDecay, p.room, p.sent);
  const std::vector<int32_t> indices = download_ints(device, p.sent.indices), bits = download_ints(device, p.sent.bits);
  REQUIRE(indices[2] == kFirst + 39'999);
  std::vector<int32_t> both(6, 0);
  const Tensor fine = upload_ints(device, both, {1, 2, 3});
  backend.compress->check_finite(fine);
  REQUIRE(state_of(backend).overflow == 0);
  std::copy(bits.begin(), bits.end(), both.begin() + 3);
  backend.compress->check_finite(upload_ints(device, both, {1, 2, 3}));
  REQUIRE(state_of(backend).overflow == 1);
  backend.compress->keep_rest(p.part, kDecay, p.sent);
  REQUIRE(download(device, p.part.velocity) == u);
  REQUIRE(download(device, p.part.unsent) == v);
  Param param;
  param.value = p.part.value, param.grad = p.part.grad;
  Param* const params[] = {&param};
  backend.compress->descend(params, {});
  REQUIRE(download(device, param.value) == p.w);
}

void scatter_case(Backend& backend, int64_t n, int64_t parts, int64_t k) {
  INFO(parts << " parts of " << k << " into " << n);
  begin(backend, false);
  Device& device = *backend.device;
  std::vector<int32_t> sent;
  Values expected(static_cast<size_t>(n), 0.0);
  for (int64_t p = 0; p < parts; ++p) {
    std::vector<int32_t> bits;
    const Values x = random_values({k}, static_cast<uint64_t>(40 + p), Dtype::f32);
    for (int64_t i = 0; i < k; ++i) {
      // Different within a part, often the same in others; the last place is empty.
      const int64_t index = (i * 7 + p * (n / 2)) % n;
      const bool empty = i + 1 == k;
      sent.push_back(empty ? math::kNothingSent : static_cast<int32_t>(index));
      bits.push_back(empty ? 0 : std::bit_cast<int32_t>(static_cast<float>(x[static_cast<size_t>(i)])));
      if (!empty) expected[static_cast<size_t>(index)] += kScale * x[static_cast<size_t>(i)];
    }
    sent.insert(sent.end(), bits.begin(), bits.end());
  }
  Tensor sum = garbage(device, {n});
  backend.compress->scatter(upload_ints(device, sent, {parts, 2, k}), sum);
  require_close(download(device, sum), expected, 1e-6, 1e-6);  // a few sums of values of about 8
  // The rate and the group's factor; the gradient's factor takes the loss scale out.
  begin_step(backend, {.rule = {.lr = 0.5F, .momentum = kMomentum}});
  const Tensor gradients[] = {sum};
  backend.optim->judge_gradients(gradients);
  Param param;
  const Values w = random_values({n}, 77, Dtype::f32);
  param.value = upload(device, w, {n});
  param.grad = sum;
  Param* const params[] = {&param};
  backend.compress->descend(params, {.lr = 0.25F, .weight_decay = 100});
  require_close(download(device, param.value), moved(w, -0.125 / kScale, expected), 1e-6, 1e-6);
}

void clip_case(Backend& backend) {
  begin(backend, false);
  Device& device = *backend.device;
  const Values g = random_values({20'001}, 3, Dtype::f32);
  Tensor gradient = upload(device, g, {20'001});
  const double more = 50, norm = std::sqrt(dot(g, g) + more) / kScale;
  const Tensor squares = upload(device, {dot(g, g), more}, {2}, Dtype::f64);
  backend.compress->clip(gradient, squares, norm * 2);
  REQUIRE(download(device, gradient) == g);
  backend.compress->clip(gradient, squares, norm / 2);
  require_close(download(device, gradient), moved(Values(g.size(), 0.0), (norm / 2) / (norm + 1e-6), g), 1e-6, 0);
  // Of a norm that is not finite nothing is made finite.
  gradient = upload(device, {1, std::numeric_limits<double>::infinity()}, {2});
  backend.compress->clip(gradient, upload(device, {std::numeric_limits<double>::infinity()}, {1}, Dtype::f64), 1);
  REQUIRE_FALSE(std::isfinite(download(device, gradient)[1]));
}

}  // namespace

void compress_cases(Backend& backend) {
  // Less than a warp, a block's piece and one more, several pieces; more places than elements.
  for (const bool nesterov : {false, true}) {
    select_case(backend, 1, 1, nesterov);
    select_case(backend, 50, 7, nesterov);
    select_case(backend, 16'385, 17, nesterov);
  }
  select_case(backend, 5, 9, false);
  select_case(backend, 0, 4, false);
  select_case(backend, 100'003, 101, false);
  select_case(backend, 70'000, 20'000, false);
  select_case(backend, 300'007, 300, false);
  equal_case(backend, 1'001, 500);
  equal_case(backend, 40'000, 20'000);
  equal_case(backend, 40'000, 600);
  misled_case(backend);
  select_case(backend, 50, 7, false, 1);
  select_case(backend, 100'003, 101, false, 4);
  for (const bool lars : {false, true}) {
    not_finite_case(backend, std::numeric_limits<double>::infinity(), lars);
    not_finite_case(backend, std::nan(""), lars);
  }
  scatter_case(backend, 101, 1, 5);
  scatter_case(backend, 5'003, 4, 600);
  clip_case(backend);
  set_fresh_state(backend);
}

}  // namespace plsc::test
