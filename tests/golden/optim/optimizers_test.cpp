// Forty updates by each optimizer against PyTorch (tests/golden/generate_optim.py): tensors of several shapes and
// sizes, among them one of zeros and one without a gradient; clipping; a rate that changes; a group of its own for
// norms.
#include <cmath>
#include <deque>

#include "optim/optimizer.h"
#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/npy.h"
#include "support/source_dir.h"

using namespace plsc;
using namespace plsc::test;

namespace {

constexpr int64_t kSteps = 40;

struct TensorCase {
  Shape shape;
  ParamKind kind;
  double weights, gradients;  // their sizes
};
const std::vector<TensorCase> kTensors{{{8, 4, 3, 3}, ParamKind::weight, 1, 0.3},
                                       {{16, 33}, ParamKind::weight, 0.1, 3},
                                       {{7}, ParamKind::norm, 1, 0.3},
                                       {{5}, ParamKind::bias, 0, 1},
                                       {{6, 6}, ParamKind::weight, 0, 0.5},
                                       {{5, 5}, ParamKind::weight, 1, 0},
                                       {{1, 1}, ParamKind::weight, 2, 1e-4}};

std::deque<Param> make_params() {
  std::deque<Param> params;
  for (const TensorCase& c : kTensors) {
    Param& p = params.emplace_back();
    p.name = "p" + std::to_string(params.size());
    p.kind = c.kind;
    p.value = Tensor(host_allocator(), c.shape, Dtype::f32);
    p.grad = Tensor(host_allocator(), c.shape, Dtype::f32);
    for (int64_t i = 0; i < p.value.elements(); ++i)
      p.value.data<float>()[i] =
          static_cast<float>(c.weights * std::sin(static_cast<double>(i + static_cast<int64_t>(params.size()))));
  }
  return params;
}

void set_gradients(std::deque<Param>& params, int64_t step) {
  for (size_t k = 0; k < params.size(); ++k) {
    for (int64_t i = 0; i < params[k].grad.elements(); ++i) {
      const double angle = 0.37 * static_cast<double>(i) + 1.3 * static_cast<double>(step) + static_cast<double>(k);
      params[k].grad.data<float>()[i] = static_cast<float>(kTensors[k].gradients * (std::cos(angle) + 0.2));
    }
    params[k].grad_stale = false;
  }
}

struct Golden {
  std::string file, name;
  double lr = 0;
  bool nesterov = false;
  double epsilon = 1e-8;
};

void check_optimizer(const Golden& golden) {
  CpuContext rank(2);
  OptimizerConfig config;
  config.name = golden.name;
  config.nesterov = golden.nesterov;
  config.weight_decay = 0.02;
  config.epsilon = golden.epsilon;
  config.norms.lr = 0.5;
  config.norms.weight_decay = 0;
  const Optimizer optimizer(config);
  std::deque<Param> params = make_params();
  std::vector<Param*> all;
  for (Param& p : params) all.push_back(&p);
  const Tensor expected = read_npy(source_dir() + "/tests/golden/optim/data/" + golden.file + ".npy");
  const auto check_row = [&](int64_t row) {
    int64_t at = row * expected.dim(1);
    for (size_t k = 0; k < params.size(); ++k) {
      for (const float w : params[k].value.values<float>()) {
        INFO(golden.file << ", row " << row << ", tensor " << k);
        // Forty updates in fp32 of weights up to 3: each rounds by at most 1.2e-7, and what Adam divides by is rounded
        // as often, which costs 1e-6 of the way that a weight goes.
        REQUIRE(static_cast<double>(w) == test::Approx(expected.data<double>()[at++]).epsilon(2e-6).margin(2e-6));
      }
    }
  };
  for (int64_t t = 0; t < kSteps; ++t) {
    set_gradients(params, t);
    const double lr = golden.lr * (1 - static_cast<double>(t) / (kSteps + 10));
    begin_step(rank.backend, {.step = t, .clip_norm = 2, .rule = optimizer.rule(lr)});
    optimizer.step(rank.context, all);
    rank.backend.optim->finish_step();
    if (t + 1 == kSteps / 2) check_row(0);
  }
  check_row(1);
}

}  // namespace

TEST_CASE("40 updates by SGD", "[golden]") { check_optimizer({"sgd", "sgd", 0.05}); }
TEST_CASE("40 updates by SGD with Nesterov's momentum", "[golden]") {
  check_optimizer({"nesterov", "sgd", 0.05, true});
}
TEST_CASE("40 updates by AdamW", "[golden]") { check_optimizer({"adamw", "adamw", 0.01}); }
TEST_CASE("40 updates by LARS", "[golden]") { check_optimizer({"lars", "lars", 2}); }
TEST_CASE("40 updates by LAMB", "[golden]") { check_optimizer({"lamb", "lamb", 0.02, false, 1e-6}); }
