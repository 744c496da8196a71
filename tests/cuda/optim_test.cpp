// The optimizer's arithmetic on the stand-in: the cases of every backend, and what is a GPU's own: many parameters in a
// launch, addresses that are not aligned, and a host that waits for nothing.
#include "backend/cuda/compress_ops_cuda.h"
#include "backend/cuda/optim_ops_cuda.h"

#include <cmath>
#include <limits>

#include "device_test.h"
#include "parity/backend/cases.h"
#include "parity/backend/values.h"
#include "support/step_state.h"
#include "support/update_reference.h"

namespace plsc::test {
namespace {

struct OptimUnderTest {
  explicit OptimUnderTest(uint64_t seed = 1) : machine(seed) {
    auto made = std::make_unique<CudaDevice>(CudaOptions{});
    device = made.get();
    backend.device = std::move(made);
    backend.step_state = make_step_state(*device);
    backend.optim = make_cuda_optim_ops(*device, static_cast<math::StepState*>(backend.step_state.raw()));
    backend.compress = make_cuda_compress_ops(*device, static_cast<math::StepState*>(backend.step_state.raw()));
  }
  standin::TestMachine machine;
  CudaDevice* device;
  Backend backend;
};

/// Parameters of many sizes inside one buffer for each kind, `shift` elements off an aligned address.
struct Network {
  Network(CudaDevice& device, int64_t shift) {
    const int64_t sizes[] = {1, 3, 64, 0, 4099, 70'000, 17, 16'384, 16'385};
    int64_t total = shift;
    for (const int64_t n : sizes) total += n;
    values = random_values({total}, 1, Dtype::f32);
    gradients = random_values({total}, 2, Dtype::f32);
    momenta = random_values({total}, 3, Dtype::f32);
    value = test::upload(device, values, {total});
    gradient = test::upload(device, gradients, {total});
    momentum = test::upload(device, momenta, {total});
    int64_t at = shift;
    for (const int64_t n : sizes) {
      Param& p = params.emplace_back();
      p.name = fmt::format("p{}", params.size());
      p.value = value.slice(at, {n});
      p.grad = gradient.slice(at, {n});
      p.momentum = momentum.slice(at, {n});
      at += n;
    }
  }
  std::vector<Param*> pointers() {
    std::vector<Param*> all;
    for (Param& p : params) all.push_back(&p);
    return all;
  }
  std::vector<Tensor> grads() const {
    std::vector<Tensor> all;
    for (const Param& p : params) all.push_back(p.grad);
    return all;
  }
  Values values, gradients, momenta;
  Tensor value, gradient, momentum;
  std::vector<Param> params;
};

constexpr math::SgdRule kRule{.lr = 0.1f, .momentum = 0.9f, .weight_decay = 0.01f};

/// Beside a group that is empty.
void update(OptimUnderTest& test, Network& network, bool decays) {
  const ParamGroup groups[] = {{network.pointers(), {.weight_decay = decays ? kRule.weight_decay : 0}}, {}};
  test.backend.optim->update(groups);
}

/// The elements from `shift` on after one step.
Values expected_values(const Network& network, int64_t shift, double factor, bool decays) {
  Values w = network.values;
  for (size_t i = static_cast<size_t>(shift); i < w.size(); ++i) {
    const double g = factor * network.gradients[i] + (decays ? static_cast<double>(kRule.weight_decay) * w[i] : 0);
    w[i] -= static_cast<double>(kRule.lr) * (static_cast<double>(kRule.momentum) * network.momenta[i] + g);
  }
  return w;
}

}  // namespace

TEST_CASE("optimizer on the stand-in: the cases of every backend") {
  OptimUnderTest test(GENERATE(1u, 2u));
  optimizer_cases(test.backend);
  update_cases(test.backend);
  compress_cases(test.backend);
}

TEST_CASE("optimizer on the stand-in: many parameters, clipped, wherever they lie") {
  const int64_t shift = GENERATE(0, 1, 2);
  const bool decays = GENERATE(false, true);
  OptimUnderTest test;
  Network network(*test.device, shift);
  const std::vector<Tensor> gradients = network.grads();
  begin_step(test.backend, {.clip_norm = 1, .rule = math::update_rule(kRule)});
  test.backend.optim->judge_gradients(gradients);
  update(test, network, decays);
  double squares = 0;
  for (size_t i = static_cast<size_t>(shift); i < network.gradients.size(); ++i)
    squares += network.gradients[i] * network.gradients[i];
  const math::StepState state = state_of(test.backend);
  CHECK(state.grad_squares == Approx(squares).epsilon(1e-12));
  require_close(test::download(*test.device, network.value),
                expected_values(network, shift, 1 / (std::sqrt(squares) + 1e-6), decays), 0, 1e-6);
  // The same sum once more, to the bit.
  test.backend.optim->judge_gradients(gradients);
  CHECK(state_of(test.backend).grad_squares == state.grad_squares);
}

TEST_CASE("optimizer on the stand-in: the other optimizers, wherever parameters lie; the host waits for nothing") {
  const int64_t shift = GENERATE(0, 1);
  const auto& [kind, name] = GENERATE(table<math::UpdateKind, std::string>(
      {{math::UpdateKind::adamw, "adamw"}, {math::UpdateKind::lars, "lars"}, {math::UpdateKind::lamb, "lamb"}}));
  OptimUnderTest test;
  Network network(*test.device, shift);
  const Tensor squares = test.device->zeros(network.value.shape());
  std::vector<ReferenceUpdate> references;
  std::vector<Values> gradients;
  const auto piece_of = [](const Values& all, int64_t at, int64_t n) {
    return Values(all.begin() + at, all.begin() + at + n);
  };
  int64_t at = shift;
  for (Param& p : network.params) {
    const int64_t n = p.value.elements();
    p.squares = squares.slice(at, {n});
    references.emplace_back(piece_of(network.values, at, n));
    references.back().m = piece_of(network.momenta, at, n);
    gradients.push_back(piece_of(network.gradients, at, n));
    at += n;
  }
  const ReferenceSettings settings{name, 0.75, 0.5, 0.75, 0.0625, 0.125};
  const ParamGroup group{network.pointers(), {kind, 1, 0.0625F, true}};
  const std::vector<Tensor> judged = network.grads();
  const auto step = [&] {
    test.backend.optim->judge_gradients(judged);
    test.backend.optim->update(std::span(&group, 1));
    test.backend.optim->finish_step();
    for (size_t i = 0; i < references.size(); ++i) references[i].step(settings, 0.125, 0.0625, true, gradients[i]);
  };
  const math::UpdateRule rule{
      .kind = kind, .lr = 0.125F, .momentum = 0.75F, .trust = 0.125F, .epsilon = 0.0625F, .beta1 = 0.5, .beta2 = 0.75};
  begin_step(test.backend, {.rule = rule});
  step();
  const standin::Counters before = standin::counters();
  step();
  CHECK(standin::counters().bytes_to_device == before.bytes_to_device);
  CHECK(standin::counters().synchronisations == before.synchronisations);
  CHECK(standin::counters().device_allocations == before.device_allocations);
  for (size_t i = 0; i < references.size(); ++i) {
    INFO(name << ", parameter " << i << ", shifted by " << shift);
    // Two updates in fp32 of values about 1, by rates up to .125 and directions up to 10.
    require_close(test::download(*test.device, network.params[i].value), references[i].w, 0, 2e-6);
  }
}

TEST_CASE("optimizer on the stand-in: more gradients than a grid has blocks") {
  OptimUnderTest test;
  constexpr int64_t kGradients = 8192 + 300;  // a block takes a second one while some of its threads read the first
  const Values values = random_values({kGradients}, 1, Dtype::f32);
  const Tensor all = test::upload(*test.device, values, {kGradients});
  std::vector<Tensor> gradients;
  double squares = 0;
  for (int64_t i = 0; i < kGradients; ++i) {
    gradients.push_back(all.slice(i, {1}));
    squares += values[static_cast<size_t>(i)] * values[static_cast<size_t>(i)];
  }
  begin_step(test.backend, {.rule = math::update_rule(kRule)});
  test.backend.optim->judge_gradients(gradients);
  CHECK(state_of(test.backend).grad_squares == Approx(squares).epsilon(1e-12));
}

TEST_CASE("optimizer on the stand-in: the table is sent when it changes, and the host waits for nothing") {
  OptimUnderTest test;
  Network network(*test.device, 0), other(*test.device, 0);
  const auto step = [&](Network& n) {
    const std::vector<Tensor> gradients = n.grads();
    test.backend.optim->judge_gradients(gradients);
    update(test, n, true);
    test.backend.optim->finish_step();
  };
  begin_step(test.backend, {.rule = math::update_rule(kRule)});
  step(network);
  const standin::Counters before = standin::counters();
  step(network);
  CHECK(standin::counters().bytes_to_device == before.bytes_to_device);
  CHECK(standin::counters().synchronisations == before.synchronisations);
  CHECK(standin::counters().queries == before.queries);
  CHECK(standin::counters().device_allocations == before.device_allocations);
  step(other);
  CHECK(standin::counters().bytes_to_device > before.bytes_to_device);
  require_close(test::download(*test.device, other.value), expected_values(other, 0, 1, true), 0, 1e-6);
}

TEST_CASE("optimizer on the stand-in: a step that failed changes nothing") {
  OptimUnderTest test;
  Network network(*test.device, 0);
  const std::vector<Tensor> gradients = network.grads();
  const Values before = test::download(*test.device, network.value);
  const double bad = GENERATE(std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity());
  const double dynamic = GENERATE(0.0, 1.0);
  begin_step(test.backend, {.dynamic_scale = dynamic, .rule = math::update_rule(kRule)});
  Tensor one = network.gradient.slice(50'000, {1});
  test.device->copy(test::upload(*test.device, {bad}, {1}), one);
  test.backend.optim->judge_gradients(gradients);
  update(test, network, true);
  CHECK(test::download(*test.device, network.value) == before);
  CHECK(test::download(*test.device, network.momentum) == network.momenta);
  const math::StepState state = state_of(test.backend);
  CHECK(state.overflow == dynamic);
  CHECK(state.failed == (dynamic != 0 ? 0 : 2));
}

TEST_CASE("optimizer on the stand-in: one element that is not finite is found wherever it lies") {
  OptimUnderTest test;
  for (const int64_t n : {1, 5, 1024, 40'001}) {
    Values x = random_values({n + 1}, 4, Dtype::f32);
    x.back() = std::numeric_limits<double>::max();  // infinite in fp32; beyond what is asked for
    x[0] = static_cast<double>(std::numeric_limits<float>::max());
    const Tensor t = test::upload(*test.device, x, {n + 1});
    begin_step(test.backend, {.dynamic_scale = 1});
    test.backend.optim->check_finite(t.slice(0, {n}));
    CHECK(state_of(test.backend).overflow == 0);
    test.backend.optim->check_finite(t.slice(1, {n}));
    CHECK(state_of(test.backend).overflow == 1);
  }
  test.backend.optim->check_finite(test.device->tensor({0}));
}

TEST_CASE("optimizer on the stand-in: a recorded step runs by the state of each replay") {
  OptimUnderTest test(GENERATE(1u, 2u, 3u));
  Network network(*test.device, 0);
  const std::vector<Tensor> gradients = network.grads();
  const auto step = [&] {
    test.backend.optim->judge_gradients(gradients);
    update(test, network, true);
  };
  math::SgdRule resting = kRule;
  resting.lr = 0;
  begin_step(test.backend, {.rule = math::update_rule(resting)});
  step();  // sends the tables
  test.device->copy(test::upload(*test.device, network.momenta, network.momentum.shape()), network.momentum);
  test.device->begin_recording(test.device->make_recording_memory());
  step();
  const auto recording = test.device->end_recording();
  begin_step(test.backend, {.rule = math::update_rule(kRule)});
  recording->replay();
  require_close(test::download(*test.device, network.value), expected_values(network, 0, 1, true), 0, 1e-6);
}

}  // namespace plsc::test
