// The backbones that have names. iresnet: arcface_torch's; resnet: torchvision's; plsc: PLSC's own.
#include "base/error.h"
#include "config/config.h"
#include "config/nearest.h"

namespace plsc {
namespace {

struct Named {
  const char* name;
  const char* other_name;  // arcface_torch's short one, or null
  const char* kind;
  std::array<int64_t, 4> blocks;
  bool bottleneck;
};

constexpr Named kNamed[] = {
    {"iresnet18", "r18", "iresnet", {2, 2, 2, 2}, false},
    {"iresnet34", "r34", "iresnet", {3, 4, 6, 3}, false},
    {"iresnet50", "r50", "iresnet", {3, 4, 14, 3}, false},
    {"iresnet100", "r100", "iresnet", {3, 13, 30, 3}, false},
    {"iresnet200", "r200", "iresnet", {6, 26, 60, 6}, false},
    {"resnet18", nullptr, "resnet", {2, 2, 2, 2}, false},
    {"resnet34", nullptr, "resnet", {3, 4, 6, 3}, false},
    {"resnet50", nullptr, "resnet", {3, 4, 6, 3}, true},
    {"resnet101", nullptr, "resnet", {3, 4, 23, 3}, true},
    {"resnet152", nullptr, "resnet", {3, 8, 36, 3}, true},
    {"plsc_resnet50", nullptr, "plsc", {3, 4, 14, 3}, false},
    {"plsc_resnet100", nullptr, "plsc", {3, 13, 30, 3}, false},
    {"plsc_resnet101", nullptr, "plsc", {3, 4, 23, 3}, false},
    {"plsc_resnet152", nullptr, "plsc", {3, 8, 36, 3}, false},
};

}  // namespace

BackboneConfig named_backbone(const std::string& name) {
  for (const Named& named : kNamed) {
    if (name != named.name && (named.other_name == nullptr || name != named.other_name)) continue;
    BackboneConfig config;
    config.name = named.name;
    config.kind = named.kind;
    config.stem = 64;
    config.widths = {64, 128, 256, 512};
    config.blocks.assign(named.blocks.begin(), named.blocks.end());
    // torchvision's stem (stride 2, then a pool) has halved twice when its first stage begins.
    config.strides = {config.kind == "resnet" ? 1 : 2, 2, 2, 2};
    config.bottleneck = named.bottleneck;
    return config;
  }
  std::string all;
  for (const std::string& one : backbone_names()) all += (all.empty() ? "" : ", ") + one;
  const std::string suggestion = did_you_mean(name, backbone_names());
  if (!suggestion.empty()) fail("found '{}', which is no backbone{}", name, suggestion);
  fail("found '{}', expected one of {}, or a mapping {{kind, stem, widths, blocks, strides}}", name, all);
}

double default_dropout(const BackboneConfig& backbone) { return backbone.kind == "plsc" ? 0.4 : 0; }

std::vector<std::string> backbone_names() {
  std::vector<std::string> names;
  for (const Named& named : kNamed) names.emplace_back(named.name);
  return names;
}

}  // namespace plsc
