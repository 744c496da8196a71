// Finite differences through one IR block in training mode, for every parameter and for its input.
#include <cmath>

#include "nn/block.h"
#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/tiny_nets.h"

using namespace plsc;
using namespace plsc::test;

namespace {

// Balances the kinks of the activations (each element that crosses one is off by its whole gradient) against the
// rounding of the loss, some 3e-6 over twice the step.
constexpr double kStep = 2e-4;

struct Probe {
  Context& context;
  Block& block;
  Tensor x, dy;

  double loss() {
    const Tensor y = block.forward(context, x, {Mode::train, {0, 0, x.dim(0)}, x.dim(0), x.dim(0)});
    double sum = 0;
    for (int64_t i = 0; i < y.elements(); ++i) sum += static_cast<double>(y.data<float>()[i]) * dy.data<float>()[i];
    return sum;
  }
  /// d loss / d t along `direction`, by central differences.
  double slope(Tensor t, const std::vector<float>& direction, double step) {
    const auto kept = t.values<float>();
    const auto move = [&](double by) {
      for (size_t i = 0; i < kept.size(); ++i) t.data<float>()[i] = static_cast<float>(kept[i] + by * direction[i]);
      return loss();
    };
    const double up = move(step), down = move(-step);
    std::copy(kept.begin(), kept.end(), t.data<float>());
    return (up - down) / (2 * step);
  }
};

Tensor noise(Shape shape, int64_t stream) {
  Tensor t(host_allocator(), shape, Dtype::f32);
  for (int64_t i = 0; i < t.elements(); ++i) t.data<float>()[i] = drawn(stream, i);
  return t;
}

std::vector<Param*> params_of(Block& block) {
  struct Collect final : ParamVisitor {
    std::vector<Param*> found;
    void param(Param& p) override { found.push_back(&p); }
  } collect;
  block.visit(collect);
  return collect.found;
}

void check_block(Context& context, Block& block, int64_t in, int64_t out, int64_t stride) {
  for (size_t i = 0; Param * p : params_of(block)) {
    ++i;
    if (p->value.shape().size() == 4) {
      const Tensor w = noise(p->value.shape(), 100 + static_cast<int64_t>(i));
      std::copy(w.data<float>(), w.data<float>() + w.elements(), p->value.data<float>());
    }
  }
  const int64_t side = 6, out_side = (side - 1) / stride + 1;
  Probe probe{context, block, noise({5, side, side, in}, 1), noise({5, out_side, out_side, out}, 2)};
  probe.loss();
  const Tensor dx = block.backward(context, probe.dy, true);

  const auto check = [&](const std::string& name, const Tensor& value, const Tensor& gradient) {
    INFO(name);
    // Along the sign of the gradient every element counts: an error in one shows against the sum of all.
    std::vector<float> direction;
    double expected = 0;
    for (const float g : gradient.values<float>()) {
      direction.push_back(g < 0 ? -1.0f : 1.0f);
      expected += std::abs(static_cast<double>(g));
    }
    CHECK(probe.slope(value, direction, kStep) == test::Approx(expected).epsilon(0.02).margin(0.02));
    // And along a direction that has nothing to do with it, where terms of both signs must be right.
    double along = 0;
    for (size_t i = 0; i < direction.size(); ++i) {
      direction[i] = drawn(3, static_cast<int64_t>(i));
      along += static_cast<double>(direction[i]) * gradient.data<float>()[i];
    }
    CHECK(std::abs(probe.slope(value, direction, kStep) - along) < 0.02 * expected + 0.02);
  };
  check("x", probe.x, dx);
  for (const Param* p : params_of(block))
    if (p->trainable()) check(p->name, p->value, p->grad);
}

}  // namespace

TEST_CASE("gradients of blocks agree with finite differences in training mode") {
  CpuContext rank;
  ConvOps ops;
  BlockFactory make{*rank.backend.device, ops};
  SECTION("IR block with identity") {
    IrBlock block(make, "b", {6, 6, 1});
    check_block(rank.context, block, 6, 6, 1);
  }
  SECTION("IR block with projection") {
    IrBlock block(make, "b", {4, 6, 2});
    check_block(rank.context, block, 4, 6, 2);
  }
  SECTION("IR block with one shared slope") {
    make.shared_slope = true;
    IrBlock block(make, "b", {4, 6, 1});
    check_block(rank.context, block, 4, 6, 1);
  }
  SECTION("basic block with identity") {
    ResidualBlock block(make, "b", {6, 6, 1}, false);
    check_block(rank.context, block, 6, 6, 1);
  }
  SECTION("bottleneck block with projection") {
    ResidualBlock block(make, "b", {4, 3, 2}, true);
    check_block(rank.context, block, 4, 12, 2);
  }
}
