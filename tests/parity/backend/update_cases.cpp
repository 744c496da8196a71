// AdamW, LARS and LAMB over steps, for parameters of many sizes at once, against tests/support/update_reference.h; and
// the average of weights.
#include <cmath>
#include <deque>

#include "parity/backend/cases.h"
#include "parity/backend/values.h"
#include "support/step_state.h"
#include "support/update_reference.h"

namespace plsc::test {
namespace {

constexpr math::UpdateKind kKinds[] = {math::UpdateKind::adamw, math::UpdateKind::lars, math::UpdateKind::lamb};
const char* word_of(math::UpdateKind kind) {
  switch (kind) {
    case math::UpdateKind::adamw:
      return "adamw";
    case math::UpdateKind::lars:
      return "lars";
    case math::UpdateKind::lamb:
      return "lamb";
    case math::UpdateKind::sgd:
      break;
  }
  return "sgd";
}

constexpr float kLr = 0.05F, kTrust = 0.02F, kMomentum = 0.9F, kEpsilon = 1e-6F;
constexpr double kLossScale = 4, kClip = 3;

math::StepInputs inputs(math::UpdateKind kind) {
  return {.clip_norm = kClip,
          .rule = {.kind = kind,
                   .lr = kLr,
                   .momentum = kMomentum,
                   .trust = kTrust,
                   .epsilon = kEpsilon,
                   .beta1 = 0.9,
                   .beta2 = 0.99}};
}

/// What a parameter is made of, step by step.
struct Content {
  int64_t n = 0;
  double weight = 1, gradient = 1;  // sizes; 0: all zeros
};
// Of a GPU's kernel: less than a vector, a piece and one more element, several pieces.
constexpr Content kContents[] = {{1},
                                 {3},
                                 {64},
                                 {0},
                                 {4099},
                                 {16'384},
                                 {16'385},
                                 {70'000},
                                 {17, 0, 1},
                                 {33, 1, 0},
                                 {9, 0, 0},
                                 {1000, 1e-3, 1e3},
                                 {1000, 100, 1e-4}};

struct Network {
  Network(Backend& backend, math::UpdateKind kind) : device(*backend.device) {
    for (const Content& c : kContents) {
      const Shape shape{c.n};
      Values w = random_values(shape, 31 + params.size(), Dtype::f32);
      for (double& x : w) x = static_cast<float>(c.weight * x);
      Param& p = params.emplace_back();
      p.name = fmt::format("p{}", params.size());
      p.value = upload(device, w, shape);
      p.momentum = device.zeros(shape);
      if (math::has_second_moment(kind)) p.squares = device.zeros(shape);
      references.emplace_back(w);
    }
  }
  /// New gradients; returns them divided by the loss scale and clipped.
  std::vector<Values> next_gradients(int64_t step) {
    std::vector<Values> all;
    double squares = 0;
    for (size_t i = 0; i < params.size(); ++i) {
      const Shape shape = params[i].value.shape();
      Values g = random_values(shape, 1000 * static_cast<uint64_t>(step + 1) + i, Dtype::f32);
      for (double& x : g) x = static_cast<float>(kContents[i].gradient * x);
      params[i].grad = upload(device, g, shape);
      for (double& x : g) x /= kLossScale;
      squares += dot(g, g);
      all.push_back(std::move(g));
    }
    // The factor is rounded to fp32 in a rule.
    const auto factor = static_cast<float>(std::min(1.0, kClip / (std::sqrt(squares) + 1e-6)) / kLossScale);
    for (Values& g : all)
      for (double& x : g) x *= static_cast<double>(factor) * kLossScale;
    return all;
  }
  std::vector<Param*> pointers(size_t begin, size_t end) {
    std::vector<Param*> some;
    for (size_t i = begin; i < end; ++i) some.push_back(&params[i]);
    return some;
  }
  std::vector<Tensor> gradients() const {
    std::vector<Tensor> all;
    for (const Param& p : params) all.push_back(p.grad);
    return all;
  }
  Device& device;
  std::deque<Param> params;
  std::vector<ReferenceUpdate> references;
};

/// Two groups: the second one as norms are, with a rate and a decay of its own.
void update_case(Backend& backend, math::UpdateKind kind, bool layer_wise, float decay) {
  set_fresh_state(backend);
  set_loss_scale(backend, {kLossScale, 0});
  Network network(backend, kind);
  constexpr size_t kSecond = 11;
  const math::UpdateGroup rules[] = {{kind, 1, decay, layer_wise}, {kind, 0.5F, decay / 2, false}};
  const ReferenceSettings settings{word_of(kind), static_cast<double>(kMomentum), 0.9,
                                   0.99,          static_cast<double>(kEpsilon),  static_cast<double>(kTrust)};
  for (int64_t step = 0; step < 6; ++step) {
    const std::vector<Values> g = network.next_gradients(step);
    begin_step(backend, inputs(kind));
    backend.optim->judge_gradients(network.gradients());
    const ParamGroup groups[] = {{network.pointers(0, kSecond), rules[0]},
                                 {network.pointers(kSecond, network.params.size()), rules[1]}};
    backend.optim->update(groups);
    backend.optim->finish_step();
    for (size_t i = 0; i < network.params.size(); ++i) {
      const math::UpdateGroup& rule = rules[i < kSecond ? 0 : 1];
      network.references[i].step(settings, static_cast<double>(kLr) * static_cast<double>(rule.lr),
                                 static_cast<double>(rule.weight_decay), rule.layer_wise, g[i]);
    }
  }
  for (size_t i = 0; i < network.params.size(); ++i) {
    INFO(word_of(kind) << (layer_wise ? " by layers" : "") << ", decay " << decay << ", parameter " << i << " of "
                       << kContents[i].n);
    const ReferenceUpdate& r = network.references[i];
    const Param& p = network.params[i];
    // Six updates in fp32: some roundings of 6e-8 of a value each.
    require_close(download(network.device, p.value), r.w, 0, 2e-6);
    require_close(download(network.device, p.momentum), r.m, 2e-6, 2e-6);
    if (math::has_second_moment(kind)) require_close(download(network.device, p.squares), r.v, 3e-6, 1e-12);
  }
  set_fresh_state(backend);
}

/// The same bits twice, and none changed where a step is skipped.
void repeated_update_case(Backend& backend, math::UpdateKind kind) {
  INFO(word_of(kind));
  const auto values_after = [&](double dynamic, bool overflow) {
    set_fresh_state(backend);
    Network network(backend, kind);
    network.next_gradients(0);
    math::StepInputs in = inputs(kind);
    in.dynamic_scale = dynamic;
    begin_step(backend, in);
    if (overflow) {
      const Tensor bad = upload(network.device, {std::nan("")}, {1});
      backend.optim->check_finite(bad);
    }
    backend.optim->judge_gradients(network.gradients());
    const ParamGroup group{network.pointers(0, network.params.size()), {kind, 1, 0.1F, true}};
    backend.optim->update(std::span(&group, 1));
    std::vector<Values> out;
    for (const Param& p : network.params) {
      out.push_back(download(network.device, p.value));
      out.push_back(download(network.device, p.momentum));
    }
    return out;
  };
  const auto once = values_after(0, false);
  CHECK(once == values_after(0, false));
  const auto skipped = values_after(1, true);
  const Network untouched(backend, kind);
  for (size_t i = 0; i < untouched.params.size(); ++i) {
    CHECK(skipped[2 * i] == untouched.references[i].w);
    CHECK(skipped[2 * i + 1] == Values(untouched.references[i].w.size()));
  }
  set_fresh_state(backend);
}

void average_case(Backend& backend) {
  set_fresh_state(backend);
  Network network(backend, math::UpdateKind::sgd);
  std::vector<Values> expected;
  for (Param& p : network.params) {
    const Values start = random_values(p.value.shape(), 77 + expected.size(), Dtype::f32);
    p.average = upload(network.device, start, p.value.shape());
    expected.push_back(start);
  }
  const std::vector<Param*> all = network.pointers(0, network.params.size());
  for (int64_t update = 1; update <= 7; ++update) {
    begin_step(backend, {.dynamic_scale = 1});
    backend.optim->average(all, {0.25, 3});
    if (update % 3 == 0) {
      const double before = static_cast<double>(update) / 3 - 1, decay = std::min(0.25, (1 + before) / (10 + before));
      for (size_t k = 0; k < expected.size(); ++k)
        for (size_t i = 0; i < expected[k].size(); ++i)
          expected[k][i] = decay * expected[k][i] + (1 - decay) * network.references[k].w[i];
    }
    backend.optim->finish_step();
  }
  for (size_t k = 0; k < expected.size(); ++k) {
    // Two averages in fp32 of numbers up to 1, or as large as the weights: four roundings of 6e-8.
    const Values got = download(network.device, all[k]->average);
    double worst = 0;
    for (size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::abs(got[i] - expected[k][i]));
    INFO("parameter " << k);
    CHECK(worst <= 2.4e-7 * std::max(1.0, kContents[k].weight));
  }
  set_updates(backend, 2);
  begin_step(backend, {.dynamic_scale = 1});
  const Tensor bad = upload(network.device, {std::nan("")}, {1});
  backend.optim->check_finite(bad);
  const Values before = download(network.device, all[4]->average);
  backend.optim->average(all, {0.25, 3});  // its turn, but the step is skipped
  CHECK(download(network.device, all[4]->average) == before);
  set_fresh_state(backend);
}

/// The head's way of being clipped with the rest.
void head_norm_case(Backend& backend) {
  Device& device = *backend.device;
  const auto numbers = [&](const Values& v) { return upload(device, v, {static_cast<int64_t>(v.size())}, Dtype::f64); };
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{1, 1}, {3, 5}, {70, 33}, {900, 129}, {0, 8}}) {
    INFO(rows << " x " << columns);
    set_fresh_state(backend);
    set_loss_scale(backend, {8, 0});
    const Values x = random_values({rows, columns}, 5, Dtype::f32);
    Tensor gradient = upload(device, x, {rows, columns});
    Tensor each = device.tensor({rows}, Dtype::f64), one = device.tensor({1}, Dtype::f64);
    backend.optim->squares(gradient, each);
    backend.optim->squares(gradient, one);
    double total = 0;
    Values by_row(static_cast<size_t>(rows));
    for (size_t i = 0; i < x.size(); ++i) by_row[i / static_cast<size_t>(columns)] += x[i] * x[i];
    for (const double s : by_row) total += s;
    // Sums in double of some 100,000 terms at most.
    require_close(download(device, each), by_row, 1e-13, 0);
    CHECK(download(device, one)[0] == Approx(total).epsilon(1e-12));

    begin_step(backend, {.clip_norm = 0.5});
    backend.optim->note_head_squares(numbers({total, 0, 1.5}));
    const Tensor others = upload(device, {8, 16}, {2});  // 1 and 2 without the loss scale
    backend.optim->judge_gradients(std::span(&others, 1));
    const math::StepState state = state_of(backend);
    const double norm = std::sqrt(5 + total + 1.5), factor = 0.5 / (norm + 1e-6);
    CHECK(state.head_squares == Approx(total + 1.5).epsilon(1e-12));
    CHECK(state.grad_norm == Approx(norm).epsilon(1e-12));
    CHECK(state.clip_factor == Approx(factor).epsilon(1e-12));
    CHECK(state.grad_factor == Approx(factor / 8).epsilon(1e-12));
    backend.optim->clip(gradient);
    Values clipped = x;
    for (double& v : clipped) v *= factor;
    require_close(download(device, gradient), clipped, 2e-7, 0);  // the factor and the product round to fp32

    // Nothing to clip by, and a step that failed.
    begin_step(backend, {.clip_norm = 1e6});
    backend.optim->judge_gradients(std::span(&others, 1));
    const Values before = download(device, gradient);
    backend.optim->clip(gradient);
    CHECK(download(device, gradient) == before);
    backend.optim->note_head_squares(numbers({std::numeric_limits<double>::infinity()}));
    begin_step(backend, {.clip_norm = 0.5});
    backend.optim->judge_gradients(std::span(&others, 1));
    CHECK(state_of(backend).failed == 2);
    backend.optim->clip(gradient);
    CHECK(download(device, gradient) == before);
  }
  set_fresh_state(backend);
}

}  // namespace

void update_cases(Backend& backend) {
  for (const math::UpdateKind kind : kKinds) {
    for (const bool layer_wise : {false, true})
      for (const float decay : {0.0F, 0.125F}) update_case(backend, kind, layer_wise, decay);
    repeated_update_case(backend, kind);
  }
  average_case(backend);
  head_norm_case(backend);
}

}  // namespace plsc::test
