// The small networks of the goldens: the same as in tests/golden/torch_nets.py.
#pragma once
#include <cmath>
#include <memory>
#include <string>

#include "kernels/math/normal.h"
#include "nn/module.h"

namespace plsc::test {

struct TinyNet {
  ModelConfig model;
  std::array<int64_t, 2> size{16, 16};
  int64_t channels = 3;
};

inline TinyNet tiny_net(const std::string& name) {
  TinyNet net;
  BackboneConfig& b = net.model.backbone;
  b.name.clear();
  b.stem = 8;
  net.model.embedding_size = 16;
  net.model.dropout = 0;
  if (name == "iresnet") {
    b.kind = "iresnet";
    b.widths = {8, 12, 16, 24};
    b.blocks = {1, 2, 1, 1};
    b.strides = {2, 2, 2, 2};
  } else if (name == "plsc") {
    b.kind = "plsc";
    b.widths = {8, 16};
    b.blocks = {2, 1};
    b.strides = {2, 2};
    net.size = {15, 12};
    net.channels = 1;
  } else {
    b.kind = "resnet";
    b.bottleneck = name == "bottleneck";
    b.widths = b.bottleneck ? std::vector<int64_t>{4, 8} : std::vector<int64_t>{8, 16};
    b.blocks = b.bottleneck ? std::vector<int64_t>{2, 2} : std::vector<int64_t>{2, 1};
    b.strides = {1, 2};
    net.size = b.bottleneck ? std::array<int64_t, 2>{32, 32} : std::array<int64_t, 2>{32, 24};
  }
  return net;
}

/// Element i of stream `a`: lane i % 4 of block i / 4, uniform in (-1, 1).
inline float drawn(int64_t a, int64_t i, uint64_t seed = 7) {
  const auto bits = math::random4(seed, math::Draw::synthetic, static_cast<uint64_t>(a), static_cast<uint64_t>(i) / 4);
  return static_cast<float>(2 * math::to_open_unit(bits.x[i % 4]) - 1);
}

/// Images [first, first + batch) of stream `a`: (N, H, W, C).
inline Tensor tiny_images(const TinyNet& net, int64_t batch, int64_t a, int64_t first = 0) {
  Tensor x(host_allocator(), {batch, net.size[0], net.size[1], net.channels}, Dtype::f32);
  const int64_t each = net.size[0] * net.size[1] * net.channels;
  for (int64_t i = 0; i < x.elements(); ++i) x.data<float>()[i] = drawn(a, first * each + i);
  return x;
}

/// Moves scales, shifts and slopes off 1, 0 and .25, where a forgotten factor would not show.
inline void perturb(Backbone& net) {
  const auto params = net.params();
  for (size_t index = 0; index < params.size(); ++index) {
    Param& p = *params[index];
    if (p.kind != ParamKind::norm || p.frozen) continue;
    for (int64_t i = 0; i < p.value.elements(); ++i) {
      p.value.data<float>()[i] +=
          static_cast<float>(0.1 * std::sin(0.7 * static_cast<double>(i) + static_cast<double>(index)));
    }
  }
}

/// The network with the weights of torch_nets.tiny(name).
inline std::unique_ptr<Backbone> make_tiny(Context& context, const TinyNet& net) {
  context.seed = 7;
  auto backbone = make_backbone(context, net.model, net.size, net.channels);
  backbone->init(context);
  perturb(*backbone);
  return backbone;
}

/// max |a - b| / max |b|.
inline double relative_error(std::span<const float> a, std::span<const float> b) {
  double difference = 0, largest = 0;
  if (a.size() != b.size()) return INFINITY;
  for (size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::abs(static_cast<double>(a[i]) - b[i]));
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return std::isfinite(difference) ? difference / std::max(largest, 1e-30) : INFINITY;
}

}  // namespace plsc::test
