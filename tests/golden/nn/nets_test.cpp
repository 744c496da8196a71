// Whole networks against PyTorch (tests/golden/generate_nets.py): embeddings, every gradient, running statistics,
// names and shapes.
#include <fstream>

#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/npy.h"
#include "support/source_dir.h"
#include "support/tiny_nets.h"

using namespace plsc;
using namespace plsc::test;

namespace {

const std::string kData = test::source_dir() + "/tests/golden/nn/data/";
constexpr int64_t kBatch = 6;

std::span<const float> piece(const Tensor& golden, int64_t& at, int64_t count) {
  REQUIRE(at + count <= golden.elements());
  const auto all = golden.span<float>();
  const auto part = all.subspan(static_cast<size_t>(at), static_cast<size_t>(count));
  at += count;
  return part;
}

double largest(std::span<const float> values) {
  double found = 0;
  for (const float v : values) found = std::max(found, std::abs(static_cast<double>(v)));
  return found;
}

/// Compares what `pick` chooses of each parameter with the golden, one after the other. Errors are relative to the
/// largest element of the tensor, but for tensors that are all but zero (the bias in front of a batch norm has no
/// gradient), where it is the largest of the whole network that rounds into them.
template <class Pick>
void compare(const std::vector<Param*>& params, const Tensor& golden, double tolerance, Pick pick) {
  int64_t at = 0;
  const double floor = 1e-3 * largest(golden.span<float>());
  for (const Param* p : params) {
    const Tensor t = pick(*p);
    if (!t.defined()) continue;
    INFO(p->name);
    const auto expected = piece(golden, at, t.elements());
    const double scale = std::max(largest(expected), 1e-30);
    CHECK(relative_error(t.span<float>(), expected) * scale < tolerance * std::max(scale, floor));
  }
  CHECK(at == golden.elements());
}

Tensor output_gradient(const Tensor& y) {
  Tensor dy(host_allocator(), y.shape(), Dtype::f32);
  for (int64_t i = 0; i < y.elements(); ++i)
    dy.data<float>()[i] = static_cast<float>(std::cos(0.9 * static_cast<double>(i)));
  return dy;
}

void check_against_torch(const std::string& name) {
  CpuContext rank;
  const TinyNet net = tiny_net(name);
  const auto backbone = make_tiny(rank.context, net);
  const StepInfo step{0, 0, kBatch};

  const Tensor y = backbone->forward(rank.context, tiny_images(net, kBatch, 0), Mode::train, step);
  // The goldens are float64: what remains is our fp32 rounding through some 20 layers, each divided by the standard
  // deviation of few values.
  CHECK(relative_error(y.span<float>(), read_npy(kData + name + "_train.npy").span<float>()) < 2e-5);

  backbone->backward(rank.context, output_gradient(y));
  compare(backbone->params(), read_npy(kData + name + "_gradients.npy"), 2e-4, [](const Param& p) { return p.grad; });

  backbone->finish_step(rank.context);
  compare(backbone->params(), read_npy(kData + name + "_buffers.npy"), 1e-5, [](const Param& p) {
    return p.kind == ParamKind::buffer && p.value.dtype() == Dtype::f32 ? p.value : Tensor();
  });

  const Tensor e = backbone->forward(rank.context, tiny_images(net, kBatch, 1), Mode::eval, step);
  CHECK(relative_error(e.span<float>(), read_npy(kData + name + "_eval.npy").span<float>()) < 2e-5);
}

void check_names(const std::string& file, BackboneConfig config, int64_t embedding_size) {
  CpuContext rank;
  ModelConfig model;
  model.backbone = std::move(config);
  model.embedding_size = embedding_size;
  const auto backbone = make_backbone(rank.context, model, {112, 112}, 3);
  std::ifstream in(kData + file);
  REQUIRE(in);
  std::string name, shape;
  for (const Param* p : backbone->params()) {
    REQUIRE(in >> name >> shape);
    CHECK(p->name == name);
    std::string own;
    for (const int64_t d : p->value.shape().dims()) own += (own.empty() ? "" : "x") + std::to_string(d);
    CHECK((own.empty() ? "scalar" : own) == shape);
  }
  CHECK_FALSE(in >> name);
}

}  // namespace

TEST_CASE("iresnet equals PyTorch", "[golden]") { check_against_torch("iresnet"); }
TEST_CASE("PLSC's network equals PyTorch", "[golden]") { check_against_torch("plsc"); }
TEST_CASE("resnet of basic blocks equals PyTorch", "[golden]") { check_against_torch("basic"); }
TEST_CASE("resnet of bottleneck blocks equals PyTorch", "[golden]") { check_against_torch("bottleneck"); }

TEST_CASE("names and shapes are those of arcface_torch and torchvision", "[golden]") {
  BackboneConfig iresnet50;  // the default
  check_names("iresnet50.txt", iresnet50, 512);
  BackboneConfig resnet;
  resnet.kind = "resnet";
  resnet.strides = {1, 2, 2, 2};
  resnet.blocks = {2, 2, 2, 2};
  check_names("resnet18.txt", resnet, 1000);
  resnet.bottleneck = true;
  resnet.blocks = {3, 4, 6, 3};
  check_names("resnet50.txt", resnet, 1000);
}
