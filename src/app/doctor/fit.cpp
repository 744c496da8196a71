#include "app/doctor/fit.h"

#include <algorithm>
#include <cmath>

namespace plsc::doctor {
namespace {

constexpr double kValue = 4, kRowNumber = 8;  // bytes: fp32, i64
// Maps as large as a block's output that a block keeps: outputs of its batch norms, activations and convolutions.
constexpr double kMapsOfBlock = 5;
// The first block of a stage works at the size before its stride: four times the pixels in half of its maps.
constexpr double kMapsOfFirst = 10;
// A bottleneck keeps inner maps of a quarter of the channels beside two outer ones.
constexpr double kInnerMaps = 5, kOuterMaps = 2, kExpansion = 4;
constexpr double kStemMaps = 3;
constexpr double kMapsInFlight = 3;  // gradients of the largest map during the backward pass

}  // namespace

HeadShape head_shape(const Config& config, bool loss_scaling) {
  const HeadConfig& head = config.head;
  HeadShape shape;
  shape.embedding = config.model.embedding_size;
  shape.sampled = head.sampling.method == "uniform";
  shape.ratio = shape.sampled ? head.sampling.ratio : 1;
  shape.lagging = shape.sampled && head.update == "dense";
  shape.bf16 = head.store.dtype == "bf16";
  shape.keeps_gradient = config.train.accumulate > 1 || loss_scaling;
  return shape;
}

double bytes_per_class(const HeadShape& head) {
  const auto columns = static_cast<double>(head.embedding);
  double bytes = stored_per_class(head);
  if (head.keeps_gradient) bytes += columns * kValue * head.ratio;
  if (head.sampled) bytes += kRowNumber * 2 * head.ratio;  // the active rows of this step and of the next
  return bytes;
}

double stored_per_class(const HeadShape& head) {
  const auto columns = static_cast<double>(head.embedding);
  return columns * (head.bf16 ? 2 : kValue) + columns * kValue + (head.lagging ? kRowNumber : 0);
}

double activations_per_image(const BackboneConfig& backbone, std::array<int64_t, 2> image_size) {
  auto height = static_cast<double>(image_size[0]), width = static_cast<double>(image_size[1]);
  const auto halve = [&](int64_t stride) {
    height = std::ceil(height / static_cast<double>(stride));
    width = std::ceil(width / static_cast<double>(stride));
  };
  const bool torchvision = backbone.kind == "resnet";
  if (torchvision) halve(2);
  double largest = height * width * static_cast<double>(backbone.stem);
  double sum = kStemMaps * largest;
  if (torchvision) halve(2);
  for (size_t stage = 0; stage < backbone.widths.size(); ++stage) {
    halve(backbone.strides[stage]);
    const double map = height * width * static_cast<double>(backbone.widths[stage]);
    const double maps = backbone.bottleneck ? kInnerMaps + kOuterMaps * kExpansion : kMapsOfBlock;
    sum += map * (maps * static_cast<double>(backbone.blocks[stage]) + kMapsOfFirst);
    largest = std::max(largest, map * (backbone.bottleneck ? kExpansion : 1));
  }
  return sum + kMapsInFlight * largest;
}

double network_bytes(const NetworkShape& network) {
  const double gradient = network.gradients_in_double ? 2 * kValue : kValue;
  return static_cast<double>(network.parameters) * (kValue + gradient + kValue) +
         network.activations * static_cast<double>(network.images) * network.activation_bytes;
}

Fit fit(const FitQuestion& q) {
  const double ranks = q.ranks;
  Fit out;
  out.room = q.room;
  out.needed = q.network + std::ceil(static_cast<double>(q.classes) / ranks) * q.per_class;
  if (std::isinf(q.room)) return out;
  out.largest = static_cast<int64_t>(std::max(0.0, std::floor((q.room - q.network) / q.per_class) * ranks));
  return out;
}

}  // namespace plsc::doctor
