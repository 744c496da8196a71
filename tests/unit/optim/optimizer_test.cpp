// The update against a double-precision loop, clipping, what decays, what must not move.
#include "optim/optimizer.h"

#include <cmath>
#include <limits>

#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/step_state.h"

using namespace plsc;
using namespace plsc::test;

namespace {

Param make(const std::string& name, int64_t n, ParamKind kind) {
  Param p;
  p.name = name;
  p.kind = kind;
  p.value = Tensor(host_allocator(), {n}, Dtype::f32);
  p.grad = Tensor(host_allocator(), {n}, Dtype::f32);
  for (int64_t i = 0; i < n; ++i) p.value.data<float>()[i] = std::sin(static_cast<float>(i + 1));
  return p;
}

void set_gradient(Param& p, int64_t step) {
  for (int64_t i = 0; i < p.grad.elements(); ++i)
    p.grad.data<float>()[i] = 0.3f * std::cos(static_cast<float>(3 * i + 7 * step));
  p.grad_stale = false;
}

struct Reference {
  std::vector<double> w, v;
  void update(const Param& p, double scale, double lr, double momentum, double decay, bool nesterov) {
    for (size_t i = 0; i < w.size(); ++i) {
      const double g = scale * p.grad.data<float>()[i] + decay * w[i];
      v[i] = momentum * v[i] + g;
      w[i] -= lr * (nesterov ? g + momentum * v[i] : v[i]);
    }
  }
};

Reference reference_of(const Param& p) {
  Reference r;
  for (const float x : p.value.values<float>()) r.w.push_back(x);
  r.v.assign(r.w.size(), 0.0);
  return r;
}

}  // namespace

TEST_CASE("sgd follows the formula, over steps, with and without nesterov, clipping and decay of norms") {
  CpuContext rank(2);
  for (const bool nesterov : {false, true}) {
    for (const bool decay_norms : {false, true}) {
      OptimizerConfig config;
      config.nesterov = nesterov;
      config.decay_norms = decay_norms;
      config.weight_decay = 0.01;
      const double clip = 0.5;
      const Optimizer sgd(config);
      Param w = make("w", 1003, ParamKind::weight), b = make("b", 5, ParamKind::bias),
            n = make("n", 3, ParamKind::norm);
      Param* all[] = {&w, &b, &n};
      Reference rw = reference_of(w), rb = reference_of(b), rn = reference_of(n);
      for (int64_t step = 0; step < 4; ++step) {
        double squares = 0;
        for (Param* p : all) {
          set_gradient(*p, step);
          for (const float g : p->grad.values<float>()) squares += static_cast<double>(g) * g;
        }
        begin_step(rank.backend, {.step = step, .clip_norm = clip, .rule = sgd.rule(0.1)});
        sgd.step(rank.context, all);
        const double norm = state_of(rank.context).grad_norm;
        CHECK(norm == test::Approx(std::sqrt(squares)).epsilon(1e-7));
        const double scale = std::min(1.0, clip / (norm + 1e-6));
        CHECK(scale < 1);
        rw.update(w, scale, 0.1, 0.9, 0.01, nesterov);
        rb.update(b, scale, 0.1, 0.9, decay_norms ? 0.01 : 0.0, nesterov);
        rn.update(n, scale, 0.1, 0.9, decay_norms ? 0.01 : 0.0, nesterov);
      }
      const auto same = [](const Param& p, const Reference& r) {
        for (size_t i = 0; i < r.w.size(); ++i) {
          // Four updates in fp32 of values about 1.
          if (std::abs(p.value.data<float>()[i] - r.w[i]) > 2e-6) return false;
          if (std::abs(p.momentum.data<float>()[i] - r.v[i]) > 2e-6) return false;
        }
        return true;
      };
      CHECK(same(w, rw));
      CHECK(same(b, rb));
      CHECK(same(n, rn));
    }
  }
}

TEST_CASE("frozen parameters and buffers stay as they are") {
  CpuContext rank;
  Param w = make("w", 4, ParamKind::weight), frozen = make("f", 4, ParamKind::weight),
        buffer = make("r", 4, ParamKind::buffer);
  frozen.frozen = true;
  set_gradient(w, 0);
  const auto f = frozen.value.values<float>(), r = buffer.value.values<float>();
  Param* all[] = {&frozen, &w, &buffer};
  begin_step(rank.backend, {.rule = Optimizer({}).rule(0.1)});
  Optimizer({}).step(rank.context, all);
  CHECK(frozen.value.values<float>() == f);
  CHECK(buffer.value.values<float>() == r);
  CHECK_FALSE(frozen.momentum.defined());
  CHECK(w.momentum.defined());
}

TEST_CASE("without clipping a large gradient is not scaled") {
  CpuContext rank;
  Param w = make("w", 1, ParamKind::weight);
  OptimizerConfig config;
  config.weight_decay = 0;
  w.value.data<float>()[0] = 0;
  w.grad.data<float>()[0] = 1000;
  w.grad_stale = false;
  Param* all[] = {&w};
  begin_step(rank.backend, {.rule = Optimizer(config).rule(0.5)});
  Optimizer(config).step(rank.context, all);
  CHECK(state_of(rank.context).grad_norm == test::Approx(1000));
  CHECK(w.value.data<float>()[0] == test::Approx(-500));
}

TEST_CASE("a gradient that is not finite is marked and changes nothing, then and afterwards") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    CpuContext rank;
    Param a = make("a", 4, ParamKind::weight), b = make("b", 4, ParamKind::weight);
    set_gradient(a, 0);
    set_gradient(b, 0);
    b.grad.data<float>()[3] = bad;
    const auto before = a.value.values<float>();
    Param* all[] = {&a, &b};
    begin_step(rank.backend, {.step = 37, .clip_norm = 5, .rule = Optimizer({}).rule(0.1)});
    Optimizer({}).step(rank.context, all);
    CHECK(state_of(rank.context).failed == 2);  // the gradient
    CHECK(a.value.values<float>() == before);
    set_gradient(b, 0);
    begin_step(rank.backend, {.step = 38, .clip_norm = 5, .rule = Optimizer({}).rule(0.1)});
    Optimizer({}).step(rank.context, all);
    CHECK(a.value.values<float>() == before);
  }
}

TEST_CASE("a parameter whose backward pass never ran is a bug, not a step on an old gradient") {
  CpuContext rank;
  Param w = make("w", 4, ParamKind::weight);
  set_gradient(w, 0);
  Param* all[] = {&w};
  zero_grad(all);
  CHECK_THROWS_AS(Optimizer({}).step(rank.context, all), LogicError);
}

TEST_CASE("each group has a rule of its own") {
  OptimizerConfig config;
  config.name = "lamb";
  config.weight_decay = 0.25;
  config.beta2 = 0.5;
  config.head = {"lars", 10, 0.125};
  config.trust = 0.5;
  const Optimizer optimizer(config);
  CHECK(optimizer.rule(0.5).kind == math::UpdateKind::lamb);
  CHECK(optimizer.rule(0.5).lr == 0.5F);
  CHECK(optimizer.rule(0.5).weight_decay == 0.25F);
  CHECK(optimizer.rule(0.5).beta2 == 0.5);
  const math::UpdateRule head = optimizer.head_rule(0.5);
  CHECK(head.kind == math::UpdateKind::lars);
  CHECK(head.lr == 5);
  CHECK(head.weight_decay == 0.125F);
  CHECK(head.trust == 0.5F);
  config.head = {};
  CHECK(Optimizer(config).head_rule(0.5).kind == math::UpdateKind::lamb);
  CHECK(Optimizer(config).head_rule(0.5).weight_decay == 0.25F);

  // What weights and norms move by without a gradient: their decay, at their rate.
  CpuContext rank;
  for (const bool given : {false, true}) {
    config.name = "adamw";
    config.norms.lr = 0.5;
    config.norms.weight_decay.reset();
    if (given) config.norms.weight_decay = 0.125;
    Param w = make("w", 1, ParamKind::weight), b = make("b", 1, ParamKind::bias), n = make("n", 1, ParamKind::norm);
    Param* all[] = {&w, &b, &n};
    for (Param* p : all) {
      p->value.data<float>()[0] = 1;
      p->grad.data<float>()[0] = 0;
      p->grad_stale = false;
    }
    begin_step(rank.backend, {.rule = Optimizer(config).rule(0.5)});
    Optimizer(config).step(rank.context, all);
    const double decay = given ? 0.125 : 0.25;
    CHECK(w.value.data<float>()[0] == test::Approx(1 - 0.5 * 0.25));
    CHECK(b.value.data<float>()[0] == test::Approx(1 - 0.25 * decay));
    CHECK(n.value.data<float>()[0] == test::Approx(1 - 0.25 * decay));
  }
}

TEST_CASE("an optimizer that does not exist is named with those that do") {
  OptimizerConfig config;
  config.name = "adam";
  std::string message;
  try {
    const Optimizer optimizer(config);
  } catch (const Error& e) {
    message = e.what();
  }
  CHECK(message == "optimizer.name is 'adam'; known: sgd, adamw, lars, lamb");
}
