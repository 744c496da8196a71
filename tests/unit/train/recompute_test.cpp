// Recomputed blocks: the same bits as with everything kept, the same calls between the ranks, and less memory.
#include <cstring>

#include "optim/grad_sync.h"
#include "optim/optimizer.h"
#include "support/catch.h"
#include "support/counted_collective.h"
#include "support/cpu_context.h"
#include "support/tiny_nets.h"

using namespace plsc;
using namespace plsc::test;

namespace {

constexpr int64_t kBatch = 12, kSteps = 3;

struct Training {
  std::vector<std::string> recompute = {};
  std::vector<std::string> freeze = {};
  int ranks = 1;
  int64_t micro_batches = 1;
  Dtype activations = Dtype::f32;
  bool exact = false;
};

/// What rank 0 has seen: embeddings, gradients and values of all steps in their order, and its collectives' calls.
struct Outcome {
  std::vector<float> numbers;
  std::vector<std::string> calls;
};

void append(std::vector<float>& to, const Tensor& t) {
  if (t.dtype() == Dtype::f64) {
    for (const double v : t.values<double>()) to.push_back(static_cast<float>(v));
  } else if (t.dtype() == Dtype::f32) {
    to.insert(to.end(), t.data<float>(), t.data<float>() + t.elements());
  }
}

/// d loss / d embeddings, of another size in each step.
Tensor upstream(const Tensor& y, int64_t step) {
  Tensor dy(host_allocator(), y.shape(), Dtype::f32);
  for (int64_t i = 0; i < dy.elements(); ++i) dy.data<float>()[i] = drawn(50 + step, i);
  return dy;
}

void descend(const std::vector<Param*>& params) {
  for (Param* p : params) {
    if (!p->trainable()) continue;
    for (int64_t i = 0; i < p->value.elements(); ++i) {
      const double g = p->grad.dtype() == Dtype::f64 ? p->grad.data<double>()[i] : p->grad.data<float>()[i];
      p->value.data<float>()[i] -= static_cast<float>(1e-3 * g);
    }
  }
}

Outcome train(const TinyNet& plain, const Training& training) {
  TinyNet net = plain;
  net.model.recompute = training.recompute;
  Outcome outcome;
  run_ranks(training.ranks, [&](ThreadRank& self) {
    CountedCollective counted(self.comm);
    ThreadRank watched{self.rank, self.ranks, counted, self.host};
    CpuContext rank(watched, 2);
    Context& context = rank.context;
    context.activations = training.activations;
    context.sums_in_double = training.exact;
    const auto backbone = make_tiny(context, net);
    backbone->freeze(training.freeze);
    GradSync sync(context, *backbone);
    backbone->on_gradient = [&](Param& p) { sync.notify(context, p); };
    const auto params = backbone->params();
    for (int64_t step = 0; step < kSteps; ++step) {
      zero_grad(params);
      sync.begin(training.micro_batches);
      const int64_t count = kBatch / training.ranks / training.micro_batches;
      for (int64_t m = 0; m < training.micro_batches; ++m) {
        const int64_t first = (self.rank * training.micro_batches + m) * count;
        const StepInfo info{step, first, kBatch};
        next_micro_batch(context.backend, {.step = step, .first_sample = first});
        const Tensor y = backbone->forward(context, tiny_images(net, count, step, first), Mode::train, info);
        if (self.rank == 0) append(outcome.numbers, y);
        backbone->backward(context, upstream(y, step));
      }
      sync.run(context);
      descend(params);
      backbone->finish_step(context);
      if (self.rank != 0) continue;
      for (const Param* p : params) {
        if (p->trainable()) append(outcome.numbers, p->grad);
        append(outcome.numbers, p->value);
      }
    }
    if (self.rank == 0) outcome.calls = counted.calls();
  });
  return outcome;
}

/// As memcmp would have it: signs of zeros count.
bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && !a.empty() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void check_same(const TinyNet& net, const Training& kept, const std::vector<std::vector<std::string>>& choices) {
  const Outcome expected = train(net, kept);
  for (const auto& names : choices) {
    Training again = kept;
    again.recompute = names;
    INFO(names.front() << ", " << names.size() << " parts");
    const Outcome found = train(net, again);
    CHECK(same_bits(found.numbers, expected.numbers));
    CHECK(found.calls == expected.calls);
  }
}

const std::vector<std::vector<std::string>> kChoices{{"all"}, {"stem"}, {"layer1"}, {"stem", "layer2"}};

}  // namespace

TEST_CASE("recomputed parts leave every bit of several steps as it is") {
  for (const char* name : {"iresnet", "plsc", "basic", "bottleneck"}) {
    INFO(name);
    TinyNet net = tiny_net(name);
    net.model.dropout = 0.3;
    check_same(net, {}, kChoices);
    net.model.sync_batch_norm.on = true;
    check_same(net, {.ranks = 2}, kChoices);
    check_same(net, {.ranks = 2, .micro_batches = 3, .exact = true}, {{"all"}});
  }
}

TEST_CASE("recomputed parts with micro-batches and frozen parts") {
  for (const char* name : {"iresnet", "bottleneck"}) {
    INFO(name);
    const TinyNet net = tiny_net(name);
    check_same(net, {.micro_batches = 2}, {{"all"}, {"layer2"}});
    check_same(net, {.freeze = {"stem", "layer1"}}, {{"all"}});
    check_same(net, {.freeze = {"layer2"}}, {{"all"}});  // its norms are constants, and a gradient passes through
  }
}

TEST_CASE("recomputed parts with 16-bit activations") {
  if (!CpuContext().backend.device->supports(Dtype::bf16)) {
    WARN("skipped: this CPU has no bf16 instructions");
    return;
  }
  for (const char* name : {"iresnet", "bottleneck"})
    check_same(tiny_net(name), {.activations = Dtype::bf16}, {{"all"}, {"layer1", "layer2"}});
}

TEST_CASE("the test of the bits sees what it is there for") {
  TinyNet net = tiny_net("iresnet");
  const Outcome one = train(net, {});
  net.model.dropout = 0.3;
  CHECK_FALSE(same_bits(train(net, {}).numbers, one.numbers));
}

TEST_CASE("of a recomputed block its input alone is kept between the passes") {
  // Two blocks of one stage of 8 channels at full size, their inside and the stem's being nearly all there is.
  const auto held = [](std::vector<std::string> recompute) {
    CpuContext rank(1);
    TinyNet net = tiny_net("basic");
    net.model.recompute = std::move(recompute);
    const auto backbone = make_tiny(rank.context, net);
    const Tensor images = tiny_images(net, 8, 0);
    const auto live = [&] { return static_cast<int64_t>(rank.context.device().memory().in_use); };
    const Tensor first = backbone->forward(rank.context, images, Mode::train, {0, 0, 8});
    backbone->backward(rank.context, upstream(first, 0));  // gradients and workspaces are there from now on
    backbone->finish_step(rank.context);
    const int64_t before = live();
    const Tensor y = backbone->forward(rank.context, images, Mode::train, {1, 0, 8});
    return live() - before - static_cast<int64_t>(y.bytes());
  };
  // Feature maps behind the stem's convolution (16 x 12 for images of 32 x 24), its pool, and the two stages.
  const int64_t stem = 8 * 16 * 12 * 8 * 4, one = 8 * 8 * 6 * 8 * 4, two = 8 * 4 * 3 * 16 * 4;
  const int64_t kept = held({});
  const int64_t all = held({"all"});
  const int64_t layer1 = held({"layer1"});
  // A basic block keeps what its norms and its second convolution read, 3 feature maps, and its output; where the
  // shape changes, what the projection's norm reads, too.
  CHECK(kept - layer1 == 2 * 3 * one);
  CHECK(kept - all == 2 * 3 * one + 4 * two + stem);
}
