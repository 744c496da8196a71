// The loss scale of fp16: its rule against torch.amp.GradScaler's, and that a step does not see it but where it
// overflows.
#include "kernels/math/loss_scale.h"

#include <cmath>
#include <limits>

#include "kernels/math/rng.h"
#include "optim/optimizer.h"
#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/step_state.h"

using namespace plsc;
using namespace plsc::test;

namespace {

/// GradScaler.update as its documentation has it: init_scale 65536, growth_factor 2, backoff_factor .5,
/// growth_interval 2000.
struct GradScaler {
  double scale = 65536;
  int64_t growth_tracker = 0;
  void update(bool found_inf) {
    if (found_inf) {
      scale *= 0.5;
      growth_tracker = 0;
    } else if (++growth_tracker == 2000) {
      scale *= 2;
      growth_tracker = 0;
    }
  }
};

bool overflows(int64_t step, int64_t one_in) {
  return math::random64(3, math::Draw::synthetic, 9, static_cast<uint64_t>(step)) % static_cast<uint64_t>(one_in) == 0;
}

/// Whether both go the same way for `steps` steps.
template <class Overflows>
bool same_as_torch(int64_t steps, const Overflows& overflow) {
  GradScaler torch;
  math::LossScale ours{math::kFirstLossScale, 0};
  for (int64_t step = 0; step < steps; ++step) {
    torch.update(overflow(step));
    ours = math::next_loss_scale({}, ours, overflow(step));
    if (ours.scale != torch.scale || ours.good_steps != static_cast<double>(torch.growth_tracker)) return false;
  }
  return true;
}

Param make(const std::string& name, int64_t n, float gradient_scale) {
  Param p;
  p.name = name;
  p.value = Tensor(host_allocator(), {n}, Dtype::f32);
  p.grad = Tensor(host_allocator(), {n}, Dtype::f32);
  for (int64_t i = 0; i < n; ++i) {
    p.value.data<float>()[i] = std::sin(static_cast<float>(i + 1));
    p.grad.data<float>()[i] = gradient_scale * std::cos(static_cast<float>(3 * i + n));
  }
  p.grad_stale = false;
  return p;
}

math::StepInputs inputs(const Optimizer& sgd, double clip_norm, bool dynamic) {
  return {.clip_norm = clip_norm, .dynamic_scale = dynamic ? 1.0 : 0.0, .rule = sgd.rule(0.1)};
}

struct Updated {
  std::vector<float> values, momenta;
  double norm = 0;
  bool operator==(const Updated&) const = default;
};

/// Two updates of two parameters whose gradients are `scale` times what they are without one.
Updated update(double scale, double clip_norm) {
  CpuContext rank;
  set_loss_scale(rank.backend, {scale, 0});
  const Optimizer sgd(OptimizerConfig{});
  Param a = make("a", 1003, static_cast<float>(scale)), b = make("b", 7, static_cast<float>(scale));
  Param* all[] = {&a, &b};
  Updated out;
  for (int step = 0; step < 2; ++step) {
    begin_step(rank.backend, inputs(sgd, clip_norm, scale != 1));
    sgd.step(rank.context, all);
    out.norm = state_of(rank.context).grad_norm;
  }
  for (const Param* p : all) {
    for (const float x : p->value.values<float>()) out.values.push_back(x);
    for (const float x : p->momentum.values<float>()) out.momenta.push_back(x);
  }
  return out;
}

}  // namespace

TEST_CASE("the loss scale goes the way of torch.amp.GradScaler") {
  CHECK(same_as_torch(15'999, [](int64_t) { return false; }));
  // The first steps of a run; then at the interval's end, one before and one behind it.
  CHECK(same_as_torch(9'000, [](int64_t step) { return step < 7; }));
  for (const int64_t at : {1998, 1999, 2000, 2001, 3999}) {
    INFO(at);
    CHECK(same_as_torch(9'000, [&](int64_t step) { return step == at; }));
  }
  for (const int64_t one_in : {50, 1500, 4000}) {
    INFO(one_in);
    CHECK(same_as_torch(16'000, [&](int64_t step) { return overflows(step, one_in); }));
  }
}

TEST_CASE("the loss scale grows to its end and no further, and comes down again") {
  math::LossScale scale{math::kFirstLossScale, 0};
  for (int64_t step = 0; step < 50'000; ++step) scale = math::next_loss_scale({}, scale, false);
  CHECK(scale.scale == math::LossScaleRule().largest);
  scale = math::next_loss_scale({}, scale, true);
  CHECK(scale.scale == math::LossScaleRule().largest / 2);
  CHECK(scale.good_steps == 0);
}

TEST_CASE("a step with a loss scale is the step without, to the last bit, clipped or not") {
  // A scale is a power of two: it moves exponents alone.
  for (const double clip_norm : {0.0, 0.5, 5.0, 1e6}) {
    const Updated plain = update(1, clip_norm);
    for (const double scale : {65536.0, 2.0, 1.0 / 1024}) {
      INFO("clip_norm " << clip_norm << ", scale " << scale);
      CHECK(update(scale, clip_norm) == plain);
    }
  }
  CHECK(update(65536, 0.5).values != update(65536, 0).values);
}

TEST_CASE("judging a gradient: its norm without the scale, the factor that takes the scale off, and the marks") {
  math::StepState state;
  state.in.clip_norm = 2;
  state.loss_scale.scale = 8;
  state.grad_squares = 64.0 * 9;  // a norm of 3
  math::judge_gradient(state);
  CHECK(state.grad_norm == Approx(3));
  CHECK(state.grad_factor == Approx(2.0 / (3 + 1e-6) / 8));
  state.grad_squares = 64;  // of 1: not clipped
  math::judge_gradient(state);
  CHECK(state.grad_factor == 0.125);
  CHECK_FALSE(math::updates_blocked(state));
  for (const double bad : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    for (const bool dynamic : {true, false}) {
      math::StepState judged;
      judged.in.dynamic_scale = dynamic ? 1 : 0;
      judged.grad_squares = bad;
      math::judge_gradient(judged);
      CHECK((judged.overflow != 0) == dynamic);
      CHECK((judged.failed == 2) == !dynamic);
      CHECK(math::updates_blocked(judged));
    }
  }
}

TEST_CASE("an overflow leaves weights, momenta and running statistics as they are, for one step") {
  for (const bool own : {true, false}) {
    INFO((own ? "this rank's gradient" : "another rank's"));
    CpuContext rank;
    set_loss_scale(rank.backend, {math::kFirstLossScale, 5});
    const Optimizer sgd(OptimizerConfig{});
    Param a = make("a", 70, 65536), b = make("b", 7, 65536);
    Param* all[] = {&a, &b};
    Tensor mean = Tensor::from<float>({0.5F}, {1}), var = Tensor::from<float>({2}, {1});
    const Tensor sums = Tensor::from<double>({40, 500, 10}, {3});  // of ten rows: mean 4, another variance
    const auto step = [&] {
      begin_step(rank.backend, inputs(sgd, 5, true));
      if (!own) step_flags(rank.backend).data<double>()[0] = a.grad.data<float>()[0] > 1e30F ? 1 : 0;
      sgd.step(rank.context, all);
      rank.context.nn().batch_norm_fold(sums, 0.1F, mean, var);
      rank.backend.optim->finish_step();
    };
    step();  // momenta are not zero
    const auto state = [&] {
      std::vector<std::vector<float>> out;
      for (const Param* p : all) {
        out.push_back(p->value.values<float>());
        out.push_back(p->momentum.values<float>());
      }
      out.push_back(mean.values<float>());
      out.push_back(var.values<float>());
      return out;
    };
    const auto before = state();
    const float kept = a.grad.data<float>()[0];
    a.grad.data<float>()[0] = own ? std::numeric_limits<float>::infinity() : 2e30F;
    step();
    CHECK(state() == before);
    CHECK(state_of(rank.context).loss_scale.scale == math::kFirstLossScale / 2);
    CHECK(state_of(rank.context).loss_scale.good_steps == 0);
    a.grad.data<float>()[0] = kept;
    step();
    const auto after = state();
    for (size_t i = 0; i < after.size(); ++i) CHECK(after[i] != before[i]);
    CHECK(state_of(rank.context).loss_scale.scale == math::kFirstLossScale / 2);
    CHECK(state_of(rank.context).loss_scale.good_steps == 1);
  }
}

TEST_CASE("without loss scaling the scale stays where it is") {
  CpuContext rank;
  begin_step(rank.backend, {.dynamic_scale = 0});
  rank.backend.optim->finish_step();
  CHECK(state_of(rank.context).loss_scale.scale == 1);
  CHECK(state_of(rank.context).loss_scale.good_steps == 0);
}
