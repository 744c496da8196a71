// The kinds of values that have parts: image size, augmentations, backbone, margin, evaluation sets.
#include "base/error.h"
#include "config/nearest.h"
#include "config/value_types.h"

namespace plsc {
namespace {

/// Reads one part of a mapping into `out`, where it is there.
template <class T>
void read_part(const Node& node, const std::string& key, const char* part, const ValueType<T>& type, T& out) {
  const Node* value = node.find(part);
  if (value == nullptr) return;
  out = read_value(*value, key + "." + part, type);
}

void check_parts(const Node& node, const std::string& key, const std::vector<std::string>& parts) {
  for (const NodeEntry& entry : node.entries) {
    bool known = false;
    for (const std::string& part : parts) known |= entry.key == part;
    if (known) continue;
    std::string all;
    for (const std::string& part : parts) all += (all.empty() ? "" : ", ") + part;
    const std::string near = nearest(entry.key, parts);
    fail("{}: unknown key '{}.{}'; {}", entry.origin, key, entry.key,
         near.empty() ? "expected one of " + all : fmt::format("did you mean '{}.{}'?", key, near));
  }
}

struct MarginPreset {
  const char* name;
  double m1, m2, m3;
};
constexpr MarginPreset kMargins[] = {
    {"arcface", 1, 0.5, 0}, {"cosface", 1, 0, 0.4}, {"sphereface", 1.35, 0, 0}, {"none", 1, 0, 0}};

ValueType<std::vector<int64_t>> sizes() { return list_of(whole(1, 1 << 20)); }

BackboneConfig read_backbone_mapping(const Node& node, const std::string& key) {
  check_parts(node, key, {"kind", "stem", "widths", "blocks", "strides", "bottleneck"});
  BackboneConfig config;
  config.name.clear();
  read_part(node, key, "kind", one_of({"iresnet", "resnet", "plsc"}), config.kind);
  read_part(node, key, "stem", whole(1, 1 << 20), config.stem);
  read_part(node, key, "widths", sizes(), config.widths);
  read_part(node, key, "blocks", sizes(), config.blocks);
  config.strides.assign(config.widths.size(), 2);
  // A torchvision stem halves twice before the first stage.
  if (config.kind == "resnet" && !config.strides.empty()) config.strides[0] = 1;
  read_part(node, key, "strides", list_of(whole(1, 16)), config.strides);
  read_part(node, key, "bottleneck", boolean(), config.bottleneck);
  if (config.widths.empty()) fail("{}: {}.widths: found an empty list, expected a width a stage", node.origin, key);
  for (const auto& [part, size] :
       {std::pair("blocks", config.blocks.size()), std::pair("strides", config.strides.size())}) {
    if (size != config.widths.size())
      fail("{}: {}.{}: found {} values, expected {}: one a stage, as many as widths", node.origin, key, part, size,
           config.widths.size());
  }
  if (config.bottleneck && config.kind != "resnet")
    fail("{}: {}.bottleneck: found true with kind {}, expected kind resnet", node.origin, key, config.kind);
  return config;
}

AugmentConfig read_augmentation(const Node& node, const std::string& key) {
  const std::string expected = "augmentations such as flip or flip: .5";
  const Node* probability = nullptr;
  AugmentConfig config;
  if (node.kind == Node::Kind::scalar) {
    config.kind = node.text;
  } else if (node.kind == Node::Kind::mapping && node.entries.size() == 1) {
    config.kind = node.entries[0].key;
    probability = &node.entries[0].value;
  } else {
    fail_value(node, key, expected);
  }
  if (config.kind != "flip") fail("{}: {}: found '{}', expected flip", node.origin, key, config.kind);
  if (probability != nullptr) {
    const auto type = number({0, 1});
    const std::optional<double> value = type.read(*probability, key);
    if (!value) fail_value(*probability, key + "." + config.kind, type.expected);
    config.probability = *value;
  }
  return config;
}

struct EvalSetPart {
  const char* name;
  std::string EvalSetConfig::*member;
};
constexpr EvalSetPart kEvalSetParts[] = {{"name", &EvalSetConfig::name},   {"kind", &EvalSetConfig::kind},
                                         {"bin", &EvalSetConfig::bin},     {"folder", &EvalSetConfig::folder},
                                         {"pairs", &EvalSetConfig::pairs}, {"data", &EvalSetConfig::data}};

EvalSetConfig read_eval_set(const Node& node, const std::string& key) {
  if (node.kind != Node::Kind::mapping) fail_value(node, key, "a mapping such as {name: lfw, bin: lfw.bin}");
  std::vector<std::string> names;
  for (const EvalSetPart& part : kEvalSetParts) names.emplace_back(part.name);
  check_parts(node, key, names);
  EvalSetConfig set;
  set.kind.clear();
  for (const EvalSetPart& part : kEvalSetParts) {
    const bool is_kind = part.member == &EvalSetConfig::kind;
    read_part(node, key, part.name, is_kind ? one_of({"verification", "classification"}) : text(), set.*part.member);
  }
  if (set.kind.empty()) set.kind = set.data.empty() ? "verification" : "classification";
  if (set.name.empty()) fail("{}: {}: found a set without a name, expected name: TEXT", node.origin, key);
  if (set.name.find_first_of("/\\\n") != std::string::npos)
    fail("{}: {}.name: found '{}', expected a name without slashes", node.origin, key, set.name);
  const int sources = !set.bin.empty() + (!set.folder.empty() || !set.pairs.empty()) + !set.data.empty();
  if (sources != 1 || set.folder.empty() != set.pairs.empty() || (set.kind == "classification") == set.data.empty())
    fail("{}: {}: set '{}' needs one of: bin; folder and pairs; data (kind: classification)", node.origin, key,
         set.name);
  return set;
}

}  // namespace

ValueType<std::array<int64_t, 2>> image_size() {
  ValueType<std::array<int64_t, 2>> type;
  type.expected = "a size from 1 to 16384, or [height, width]";
  type.read = [](const Node& node, const std::string& key) -> std::optional<std::array<int64_t, 2>> {
    const auto given = list_of(whole(1, 16384)).read(node, key);
    if (node.kind != Node::Kind::list) return std::array<int64_t, 2>{(*given)[0], (*given)[0]};
    if (given->size() != 2) fail("{}: {}: found {} sizes, expected [height, width]", node.origin, key, given->size());
    return std::array<int64_t, 2>{(*given)[0], (*given)[1]};
  };
  type.print = [](const std::array<int64_t, 2>& size) { return fmt::format("[{}, {}]", size[0], size[1]); };
  return type;
}

ValueType<std::vector<AugmentConfig>> augmentations() {
  ValueType<std::vector<AugmentConfig>> type;
  type.expected = "a list of augmentations such as [flip: .5], or none";
  type.words = {"none"};
  type.read = [](const Node& node, const std::string& key) -> std::optional<std::vector<AugmentConfig>> {
    std::vector<AugmentConfig> list;
    if (node.is_word("none")) return list;
    if (node.kind == Node::Kind::nothing) return std::nullopt;
    if (node.kind != Node::Kind::list) {
      list.push_back(read_augmentation(node, key));
      return list;
    }
    for (const Node& item : node.items) list.push_back(read_augmentation(item, key));
    return list;
  };
  type.print = [](const std::vector<AugmentConfig>& list) {
    std::string out;
    for (const AugmentConfig& a : list) out += fmt::format("{}{}: {}", out.empty() ? "" : ", ", a.kind, a.probability);
    return "[" + out + "]";
  };
  type.takes_mapping = true;
  return type;
}

ValueType<BackboneConfig> backbone() {
  ValueType<BackboneConfig> type;
  type.expected = "the name of a backbone, or a mapping {kind, stem, widths, blocks, strides, bottleneck}";
  type.takes_mapping = true;
  type.read = [](const Node& node, const std::string& key) -> std::optional<BackboneConfig> {
    if (node.kind == Node::Kind::mapping) return read_backbone_mapping(node, key);
    if (node.kind != Node::Kind::scalar) return std::nullopt;
    try {
      return named_backbone(node.text);
    } catch (const Error& e) {
      fail("{}: {}: {}", node.origin, key, e.what());
    }
  };
  type.print = [](const BackboneConfig& b) {
    if (!b.name.empty()) return yaml_scalar(b.name);
    const auto list = sizes().print;
    return fmt::format("{{kind: {}, stem: {}, widths: {}, blocks: {}, strides: {}, bottleneck: {}}}", b.kind, b.stem,
                       list(b.widths), list(b.blocks), list(b.strides), b.bottleneck);
  };
  return type;
}

MarginConfig named_margin(const std::string& name) {
  for (const MarginPreset& preset : kMargins)
    if (name == preset.name) return {preset.name, preset.m1, preset.m2, preset.m3};
  fail("found '{}', which is no margin", name);
}

ValueType<MarginConfig> margin() {
  ValueType<MarginConfig> type;
  type.expected = "arcface, cosface, sphereface, none, or a mapping {m1, m2, m3}";
  type.takes_mapping = true;
  for (const MarginPreset& preset : kMargins) type.words.emplace_back(preset.name);
  type.read = [](const Node& node, const std::string& key) -> std::optional<MarginConfig> {
    for (const MarginPreset& preset : kMargins)
      if (node.is_word(preset.name)) return named_margin(preset.name);
    if (node.kind != Node::Kind::mapping) return std::nullopt;
    check_parts(node, key, {"m1", "m2", "m3"});
    MarginConfig config{"custom", 1, 0, 0};
    read_part(node, key, "m1", number(at_least(1)), config.m1);
    read_part(node, key, "m2", number(at_least(0)), config.m2);
    read_part(node, key, "m3", number(at_least(0)), config.m3);
    return config;
  };
  type.print = [](const MarginConfig& m) {
    for (const MarginPreset& preset : kMargins)
      if (m == MarginConfig{preset.name, preset.m1, preset.m2, preset.m3}) return m.name;
    return fmt::format("{{m1: {}, m2: {}, m3: {}}}", m.m1, m.m2, m.m3);
  };
  return type;
}

ValueType<std::vector<EvalSetConfig>> eval_sets() {
  ValueType<std::vector<EvalSetConfig>> type;
  type.expected = "a list of sets such as [{name: lfw, bin: lfw.bin}]";
  type.read = [](const Node& node, const std::string& key) -> std::optional<std::vector<EvalSetConfig>> {
    if (node.kind != Node::Kind::list) return std::nullopt;
    std::vector<EvalSetConfig> sets;
    for (size_t i = 0; i < node.items.size(); ++i) {
      sets.push_back(read_eval_set(node.items[i], fmt::format("{}[{}]", key, i)));
      for (size_t j = 0; j < i; ++j)
        if (sets[j].name == sets[i].name)
          fail("{}: {}[{}].name: found '{}' twice, expected a different name for each set", node.items[i].origin, key,
               i, sets[i].name);
    }
    return sets;
  };
  type.print = [](const std::vector<EvalSetConfig>& sets) {
    std::string out;
    for (const EvalSetConfig& set : sets) {
      std::string one;
      for (const EvalSetPart& part : kEvalSetParts)
        if (!(set.*part.member).empty())
          one += fmt::format("{}{}: {}", one.empty() ? "" : ", ", part.name, yaml_scalar(set.*part.member));
      out += (out.empty() ? "{" : ", {") + one + "}";
    }
    return "[" + out + "]";
  };
  return type;
}

}  // namespace plsc
