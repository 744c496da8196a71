// AdamW, LARS and LAMB over steps, for parameters of many sizes at once: against tests/support/update_reference.h.
#include <cmath>
#include <deque>

#include "parity/backend/cases.h"
#include "parity/backend/values.h"
#include "support/step_state.h"
#include "support/update_reference.h"

namespace plsc::test {
namespace {

constexpr math::UpdateKind kKinds[] = {math::UpdateKind::adamw, math::UpdateKind::lars, math::UpdateKind::lamb};
const char* name_of(math::UpdateKind kind) {
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
  const ReferenceSettings settings{name_of(kind), static_cast<double>(kMomentum), 0.9,
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
    INFO(name_of(kind) << (layer_wise ? " by layers" : "") << ", decay " << decay << ", parameter " << i << " of "
                       << kContents[i].n);
    const ReferenceUpdate& r = network.references[i];
    const Param& p = network.params[i];
    // Six updates in fp32: some roundings of 6e-8 of a value each, of numbers as large as the weights are.
    const double size = std::max(1.0, kContents[i].weight);
    require_close(download(network.device, p.value), r.w, 0, 2e-6 * size);
    require_close(download(network.device, p.momentum), r.m, 2e-6, 2e-6);
    if (math::has_second_moment(kind)) require_close(download(network.device, p.squares), r.v, 3e-6, 1e-12);
  }
  set_fresh_state(backend);
}

/// The same bits twice, and none changed where a step is skipped.
void repeated_update_case(Backend& backend, math::UpdateKind kind) {
  INFO(name_of(kind));
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

}  // namespace

void update_cases(Backend& backend) {
  for (const math::UpdateKind kind : kKinds) {
    for (const bool layer_wise : {false, true})
      for (const float decay : {0.0F, 0.125F}) update_case(backend, kind, layer_wise, decay);
    repeated_update_case(backend, kind);
  }
}

}  // namespace plsc::test
