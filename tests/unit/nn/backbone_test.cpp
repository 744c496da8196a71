// Shapes, parameter counts, first values, freezing, saved state and errors of whole networks.
#include <set>

#include "nn/module.h"
#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/error_text.h"
#include "support/tiny_nets.h"

using namespace plsc;
using namespace plsc::test;

namespace {

int64_t parameters(Backbone& backbone) {
  int64_t count = 0;
  for (const Param* p : backbone.params()) count += p->kind == ParamKind::buffer ? 0 : p->value.elements();
  return count;
}

ModelConfig of_blocks(const std::string& kind, std::vector<int64_t> blocks, int64_t embedding_size) {
  ModelConfig model;
  model.backbone.kind = kind;
  model.backbone.blocks = std::move(blocks);
  if (kind == "resnet") model.backbone.strides = {1, 2, 2, 2};
  model.embedding_size = embedding_size;
  return model;
}

/// Host memory that knows how much of it is alive.
struct CountingAllocator final : Allocator {
  void* allocate(size_t bytes) override {
    ++blocks;
    return host_allocator().allocate(bytes);
  }
  void release(void* data, size_t bytes) noexcept override {
    --blocks;
    host_allocator().release(data, bytes);
  }
  bool is_host() const override { return true; }
  int blocks = 0;
};

Tensor ones(Shape shape) {
  Tensor t(host_allocator(), shape, Dtype::f32);
  for (float& v : t.span<float>()) v = 1;
  return t;
}

std::vector<std::vector<float>> values(Backbone& backbone) {
  std::vector<std::vector<float>> all;
  for (const Param* p : backbone.params())
    if (p->value.dtype() == Dtype::f32) all.push_back(p->value.values<float>());
  return all;
}

void one_step(Context& context, Backbone& backbone, const Tensor& images) {
  const Tensor y = backbone.forward(context, images, Mode::train, {0, 0, images.dim(0)});
  backbone.backward(context, ones(y.shape()));
  backbone.finish_step(context);
}

}  // namespace

TEST_CASE("parameter counts are those of arcface_torch") {
  CpuContext rank(2);
  const struct {
    std::vector<int64_t> blocks;
    double millions;
  } known[] = {{{2, 2, 2, 2}, 24.03},
               {{3, 4, 6, 3}, 34.14},
               {{3, 4, 14, 3}, 43.59},
               {{3, 13, 30, 3}, 65.16},
               {{6, 26, 60, 6}, 118.83}};
  for (const auto& k : known) {
    const auto net = make_backbone(rank.context, of_blocks("iresnet", k.blocks, 512), {112, 112}, 3);
    CHECK(std::round(static_cast<double>(parameters(*net)) * 1e-4) / 100 == test::Approx(k.millions));
  }
}

TEST_CASE("parameter counts are those of torchvision") {
  CpuContext rank(2);
  const struct {
    std::vector<int64_t> blocks;
    bool bottleneck;
    int64_t count;
  } known[] = {{{2, 2, 2, 2}, false, 11689512},
               {{3, 4, 6, 3}, false, 21797672},
               {{3, 4, 6, 3}, true, 25557032},
               {{3, 4, 23, 3}, true, 44549160},
               {{3, 8, 36, 3}, true, 60192808}};
  for (const auto& k : known) {
    ModelConfig model = of_blocks("resnet", k.blocks, 1000);
    model.backbone.bottleneck = k.bottleneck;
    CHECK(parameters(*make_backbone(rank.context, model, {224, 224}, 3)) == k.count);
  }
}

TEST_CASE("parameter counts are those of PLSC's networks: iresnet's, with one slope a layer") {
  CpuContext rank(2);
  // iresnet50 and iresnet100 (43,590,848 and 65,156,160), less 64 - 1 for the stem and width - 1 for each block.
  const std::pair<const char*, int64_t> known[] = {{"plsc_resnet50", 43584985}, {"plsc_resnet100", 65145074}};
  for (const auto& [name, count] : known) {
    ModelConfig model;
    model.backbone = named_backbone(name);
    CHECK(parameters(*make_backbone(rank.context, model, {112, 112}, 3)) == count);
  }
}

TEST_CASE("a network of kind plsc drops out as PLSC's does, unless told otherwise") {
  CpuContext rank;
  TinyNet net = tiny_net("plsc");
  const auto output = [&](std::optional<double> dropout) {
    net.model.dropout = dropout;
    const auto backbone = make_tiny(rank.context, net);
    return backbone->forward(rank.context, tiny_images(net, 4, 0), Mode::train, {0, 0, 4}).values<float>();
  };
  CHECK(output({}) == output(0.4));
  CHECK(output({}) != output(0));
}

TEST_CASE("first values depend on the seed and the parameter alone, and are spread as they should be") {
  CpuContext one(1), two(2);
  ModelConfig model = of_blocks("iresnet", {1, 1, 1, 1}, 64);
  model.backbone.widths = {16, 32, 64, 96};
  const auto a = make_backbone(one.context, model, {32, 32}, 3), b = make_backbone(two.context, model, {32, 32}, 3);
  a->init(one.context);
  b->init(two.context);
  CHECK(values(*a) == values(*b));
  two.context.seed = 2;
  b->init(two.context);
  CHECK(values(*b) != values(*a));

  for (const Param* p : a->params()) {
    INFO(p->name);
    if (p->value.dtype() != Dtype::f32) continue;
    const auto v = p->value.values<float>();
    double mean = 0, square = 0, largest = 0;
    for (const double x : v) {
      mean += x / static_cast<double>(v.size());
      square += x * x / static_cast<double>(v.size());
      largest = std::max(largest, std::abs(x));
    }
    if (p->value.shape().size() == 4 && v.size() > 10000) {
      // Five standard errors of the mean and of the deviation of N(0, .1).
      const double error = 5 * 0.1 / std::sqrt(static_cast<double>(v.size()));
      CHECK(std::abs(mean) < error);
      CHECK(std::abs(std::sqrt(square) - 0.1) < error);
      CHECK(largest > 0.3);
    } else if (p->name == "fc.weight" || p->name == "fc.bias") {
      const double bound = 1 / std::sqrt(96.0 * 2 * 2);
      CHECK(largest < bound);
      CHECK(largest > 0.9 * bound);
    } else if (p->name.ends_with("prelu.weight")) {
      CHECK(std::set<float>(v.begin(), v.end()) == std::set<float>{0.25f});
    }
  }
}

TEST_CASE("first values of some parameters are those that they have among all") {
  CpuContext rank;
  const TinyNet net = tiny_net("iresnet");
  const auto all = make_backbone(rank.context, net.model, net.size, net.channels);
  const auto some = make_backbone(rank.context, net.model, net.size, net.channels);
  all->init(rank.context);
  const auto wanted = [](const Param& p) { return p.name.starts_with("layer3.") || p.name == "fc.bias"; };
  some->init(rank.context, wanted);
  const auto a = all->params(), b = some->params();
  for (size_t i = 0; i < a.size(); ++i) {
    INFO(a[i]->name);
    const bool drawn = a[i]->kind == ParamKind::weight || a[i]->kind == ParamKind::bias;
    if (a[i]->value.dtype() != Dtype::f32) continue;
    CHECK((a[i]->value.values<float>() == b[i]->value.values<float>()) == (!drawn || wanted(*a[i])));
  }
}

TEST_CASE("networks of any size") {
  CpuContext rank(2);
  const struct {
    std::string name;
    std::array<int64_t, 2> size;
  } cases[] = {{"iresnet", {16, 16}},  {"iresnet", {17, 45}}, {"plsc", {4, 9}}, {"basic", {8, 61}},
               {"bottleneck", {9, 9}}, {"iresnet", {7, 5}},   {"plsc", {1, 1}}, {"basic", {1, 3}}};
  for (const auto& c : cases) {
    TinyNet net = tiny_net(c.name);
    net.size = c.size;
    const auto backbone = make_tiny(rank.context, net);
    const Tensor y = backbone->forward(rank.context, tiny_images(net, 3, 0), Mode::train, {0, 0, 3});
    CHECK(y.shape() == Shape({3, 16}));
    CHECK_FALSE(backbone->backward(rank.context, ones({3, 16})).defined());  // of the images nobody asks for it
    CHECK(backbone->forward(rank.context, tiny_images(net, 1, 0), Mode::eval, {}).shape() == Shape({1, 16}));
  }
}

TEST_CASE("resnet18 takes images of 28 x 28 and 32 x 32, as torchvision's does") {
  CpuContext rank(2);
  for (const int64_t size : {28, 32}) {
    TinyNet net;
    net.model.backbone = named_backbone("resnet18");
    net.size = {size, size};
    const auto backbone = make_backbone(rank.context, net.model, net.size, 3);
    backbone->init(rank.context);
    const Tensor y = backbone->forward(rank.context, tiny_images(net, 3, 0), Mode::train, {0, 0, 3});
    CHECK(y.shape() == Shape({3, 512}));
    for (const float v : y.span<float>()) REQUIRE(std::isfinite(v));
  }
}

TEST_CASE("a rank with a single image is told at the start where a batch norm could make nothing of it") {
  run_ranks(2, [](ThreadRank& self) {
    CpuContext rank(self);
    // A name, the images' size, and whether a single image is too few.
    const std::tuple<const char*, std::array<int64_t, 2>, bool> cases[] = {
        {"iresnet", {32, 32}, true}, {"plsc", {15, 12}, true}, {"basic", {32, 32}, false}, {"basic", {8, 8}, true}};
    for (const auto& [name, size, lone] : cases) {
      TinyNet net = tiny_net(name);
      net.size = size;
      const auto backbone = make_backbone(rank.context, net.model, net.size, net.channels);
      const std::string text = error_text([&] { backbone->require_batch(rank.context, 1); });
      PLSC_CHECK(text.empty() != lone && contains(text, "sync_batch_norm") == lone, "{}: {}", name, text);
      PLSC_CHECK(error_text([&] { backbone->require_batch(rank.context, 2); }).empty());
      if (lone) {
        backbone->freeze(backbone->parts());
        PLSC_CHECK(error_text([&] { backbone->require_batch(rank.context, 1); }).empty());
      }
      net.model.sync_batch_norm.on = true;
      const auto merged = make_backbone(rank.context, net.model, net.size, net.channels);
      PLSC_CHECK(error_text([&] { merged->require_batch(rank.context, 1); }).empty());
    }
  });
  CpuContext alone;  // the only rank has nobody to merge with
  TinyNet net = tiny_net("iresnet");
  net.model.sync_batch_norm.on = true;
  const auto backbone = make_backbone(alone.context, net.model, net.size, net.channels);
  CHECK(contains(error_text([&] { backbone->require_batch(alone.context, 1); }), "single image"));
}

TEST_CASE("networks that cannot be are errors") {
  CpuContext rank;
  TinyNet net = tiny_net("iresnet");
  const auto text = [&](std::array<int64_t, 2> size) {
    return error_text([&] { make_backbone(rank.context, net.model, size, 3); });
  };
  net.model.backbone.blocks = {1, 1};
  CHECK(contains_all(text({16, 16}), {"widths has 4", "blocks 2"}));
  net.model.backbone.blocks = {1, 1, 0, 1};
  CHECK(contains(text({16, 16}), "at least 1"));
  net.model.backbone.blocks = {1, 1, 1, 1};
  net.model.backbone.bottleneck = true;
  CHECK(contains(text({16, 16}), "bottleneck"));
}

TEST_CASE("frozen parts stay bit for bit, the others train, nothing below is computed") {
  CpuContext rank(2);
  const TinyNet net = tiny_net("iresnet");
  for (const std::vector<std::string>& names : {std::vector<std::string>{"stem", "layer1", "layer2"},
                                                {"layer2"},
                                                {"stem"},
                                                {"tail"},
                                                {"stem", "layer1", "layer2", "layer3", "layer4", "tail"}}) {
    const auto backbone = make_tiny(rank.context, net);
    CHECK(backbone->parts() == std::vector<std::string>{"stem", "layer1", "layer2", "layer3", "layer4", "tail"});
    backbone->freeze(names);
    const auto before = values(*backbone);
    one_step(rank.context, *backbone, tiny_images(net, 5, 0));
    const auto after = values(*backbone);
    size_t i = 0;
    for (const Param* p : backbone->params()) {
      if (p->value.dtype() != Dtype::f32) continue;
      INFO(p->name);
      const bool frozen = std::any_of(names.begin(), names.end(), [&](const std::string& n) {
        if (n == "stem")
          return p->name.starts_with("conv1.") || p->name.starts_with("bn1.") || p->name.starts_with("prelu.");
        if (n == "tail")
          return p->name.starts_with("bn2.") || p->name.starts_with("fc.") || p->name.starts_with("features.");
        return p->name.starts_with(n + ".");
      });
      CHECK(p->grad.defined() == (p->kind != ParamKind::buffer && !frozen && p->name != "features.weight"));
      if (frozen) CHECK(before[i] == after[i]);  // running statistics too
      if (!frozen && p->kind == ParamKind::buffer) CHECK(before[i] != after[i]);
      ++i;
    }
  }
  const auto backbone = make_tiny(rank.context, net);
  CHECK(contains_all(error_text([&] { backbone->freeze({"layer5"}); }), {"layer5", "stem", "layer4", "tail"}));
}

TEST_CASE("a frozen part in the middle passes the same gradients down as running statistics do") {
  // With the batch norms of layer2 on running statistics, its gradient is checked against finite differences of the
  // loss in a parameter below it.
  CpuContext rank(2);
  const TinyNet net = tiny_net("iresnet");
  const auto backbone = make_tiny(rank.context, net);
  backbone->freeze({"layer2", "layer3", "layer4", "tail"});
  const Tensor images = tiny_images(net, 4, 0);
  const auto loss = [&] {
    const Tensor y = backbone->forward(rank.context, images, Mode::train, {0, 0, 4});
    double sum = 0;
    for (int64_t i = 0; i < y.elements(); ++i) sum += std::cos(static_cast<double>(i)) * y.data<float>()[i];
    return sum;
  };
  loss();
  Tensor dy(host_allocator(), {4, 16}, Dtype::f32);
  for (int64_t i = 0; i < 64; ++i) dy.data<float>()[i] = static_cast<float>(std::cos(static_cast<double>(i)));
  backbone->backward(rank.context, dy);
  for (Param* p : backbone->params()) {
    if (p->name != "layer1.0.bn3.weight") continue;
    for (int64_t i = 0; i < p->value.elements(); ++i) {
      float& w = p->value.data<float>()[i];
      const float kept = w, step = 2e-3f;
      w = kept + step;
      const double up = loss();
      w = kept - step;
      const double down = loss();
      w = kept;
      // Kinks of the PReLUs within the step, and fp32 rounding of the loss over 4e-3.
      CHECK((up - down) / (2 * step) == test::Approx(p->grad.data<float>()[i]).epsilon(0.03).margin(0.03));
    }
  }
}

TEST_CASE("gradients of micro-batches add up; zero_grad is a flag") {
  CpuContext rank(2);
  const TinyNet net = tiny_net("basic");
  const auto backbone = make_tiny(rank.context, net);
  const Tensor images = tiny_images(net, 6, 0);
  const auto gradients = [&] {
    std::vector<float> all;
    for (const Param* p : backbone->params())
      if (p->grad.defined()) all.insert(all.end(), p->grad.data<float>(), p->grad.data<float>() + p->grad.elements());
    return all;
  };
  const auto pass = [&] {
    backbone->forward(rank.context, images, Mode::train, {0, 0, 6});
    backbone->backward(rank.context, ones({6, 16}));
  };
  pass();
  const auto once = gradients();
  pass();
  const auto twice = gradients();
  for (Param* p : backbone->params()) p->grad_stale = true;
  pass();
  CHECK(gradients() == once);
  double largest = 0, difference = 0;
  for (size_t i = 0; i < once.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(once[i])));
    difference = std::max(difference, std::abs(static_cast<double>(twice[i]) - 2.0 * once[i]));
  }
  CHECK(difference <= 1e-6 * largest);
}

TEST_CASE("evaluation keeps nothing, and backward lets go of what forward saved") {
  CpuContext rank;
  const TinyNet net = tiny_net("bottleneck");
  const auto backbone = make_tiny(rank.context, net);
  CountingAllocator memory;
  const auto images = [&] {
    Tensor x(memory, {4, net.size[0], net.size[1], net.channels}, Dtype::f32);
    for (float& v : x.span<float>()) v = 0.5f;
    return x;
  };
  backbone->forward(rank.context, images(), Mode::eval, {});
  CHECK(memory.blocks == 0);
  backbone->forward(rank.context, images(), Mode::train, {0, 0, 4});
  CHECK(memory.blocks == 1);
  backbone->backward(rank.context, ones({4, 16}));
  CHECK(memory.blocks == 0);
}

TEST_CASE("gradients are announced as the backward pass completes them, each once, from the top down") {
  CpuContext rank;
  const TinyNet net = tiny_net("plsc");
  const auto backbone = make_tiny(rank.context, net);
  std::vector<const Param*> seen;
  backbone->on_gradient = [&](Param& p) {
    CHECK_FALSE(p.grad_stale);
    seen.push_back(&p);
  };
  one_step(rank.context, *backbone, tiny_images(net, 4, 0));
  size_t trainable = 0;
  for (const Param* p : backbone->params()) trainable += p->trainable();
  CHECK(seen.size() == trainable);
  CHECK(std::set<const Param*>(seen.begin(), seen.end()).size() == trainable);
  CHECK(seen.front()->name.starts_with("bn2."));
  CHECK(seen.back()->name == "prelu.weight");
}

TEST_CASE("bf16 activations stay near the fp32 network; its parameters and gradients are fp32") {
  CpuContext rank(2);
  if (!rank.backend.device->supports(Dtype::bf16)) {
    WARN("skipped: this CPU has no bf16 instructions");
    return;
  }
  for (const char* name : {"iresnet", "plsc", "basic", "bottleneck"}) {
    INFO(name);
    const TinyNet net = tiny_net(name);
    const auto wide = make_tiny(rank.context, net), narrow = make_tiny(rank.context, net);
    const Tensor images = tiny_images(net, 16, 0);
    const auto run = [&](Backbone& b, Dtype dtype) {
      rank.context.activations = dtype;
      const Tensor y = b.forward(rank.context, images, Mode::train, {0, 0, 16});
      Tensor dy(host_allocator(), y.shape(), Dtype::f32);
      for (int64_t i = 0; i < y.elements(); ++i)
        dy.data<float>()[i] = static_cast<float>(std::cos(static_cast<double>(i)));
      b.backward(rank.context, dy);
      return y;
    };
    const Tensor a = run(*wide, Dtype::f32), b = run(*narrow, Dtype::bf16);
    CHECK(b.dtype() == Dtype::f32);
    // bf16 has 8 bits: some .4 % a rounding, through a dozen layers, and batch norms over few values.
    double dot = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < a.elements(); ++i) {
      const double x = a.data<float>()[i], y = b.data<float>()[i];
      dot += x * y;
      aa += x * x;
      bb += y * y;
    }
    CHECK(dot / std::sqrt(aa * bb) > 0.999);
    dot = aa = bb = 0;
    const auto pa = wide->params(), pb = narrow->params();
    for (size_t i = 0; i < pa.size(); ++i) {
      if (!pa[i]->grad.defined()) continue;
      REQUIRE(pb[i]->grad.dtype() == Dtype::f32);
      for (int64_t e = 0; e < pa[i]->grad.elements(); ++e) {
        const double x = pa[i]->grad.data<float>()[e], y = pb[i]->grad.data<float>()[e];
        dot += x * y;
        aa += x * x;
        bb += y * y;
      }
    }
    // What PyTorch's autocast gives on the same networks: .999, .998, .993, and .943 for the thin bottlenecks, where
    // ReLUs switch over.
    CHECK(dot / std::sqrt(aa * bb) > 0.93);
  }
}
