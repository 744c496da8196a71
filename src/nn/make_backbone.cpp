// From a configuration to a network: which layers, with what shapes, names and first values.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "nn/recompute.h"
#include "nn/residual_network.h"
#include "nn/stem_tail.h"

namespace plsc {
namespace {

enum class Kind { iresnet, resnet, plsc };

Kind kind_of(const BackboneConfig& config) {
  if (config.kind == "iresnet") return Kind::iresnet;
  if (config.kind == "resnet") return Kind::resnet;
  if (config.kind == "plsc") return Kind::plsc;
  fail("model.backbone.kind is '{}'; known: iresnet, resnet, plsc", config.kind);
}

std::string list(const std::vector<int64_t>& values) {
  std::string text;
  for (const int64_t v : values) text += (text.empty() ? "" : "-") + std::to_string(v);
  return text;
}

std::string name_of(const BackboneConfig& config) {
  if (!config.name.empty()) return config.name;
  return fmt::format("{} of stem {}, widths {}, blocks {}, strides {}{}", config.kind, config.stem, list(config.widths),
                     list(config.blocks), list(config.strides), config.bottleneck ? ", bottleneck" : "");
}

double dropout_of(const ModelConfig& model) { return model.dropout.value_or(default_dropout(model.backbone)); }

void check_config(const ModelConfig& model) {
  const BackboneConfig& b = model.backbone;
  const size_t stages = b.widths.size();
  if (stages == 0 || b.blocks.size() != stages || b.strides.size() != stages) {
    fail_hint("give each of them one value a stage",
              "model.backbone: widths has {} values, blocks {} and strides {}: not one network's stages", stages,
              b.blocks.size(), b.strides.size());
  }
  const auto positive = [](const std::vector<int64_t>& v) {
    return std::all_of(v.begin(), v.end(), [](int64_t x) { return x >= 1; });
  };
  if (b.stem < 1 || !positive(b.widths) || !positive(b.blocks) || !positive(b.strides))
    fail("model.backbone: {}: stem, widths, blocks and strides must be at least 1", name_of(b));
  if (b.bottleneck && b.kind != "resnet")
    fail("model.backbone: bottleneck blocks belong to kind resnet, not {}", b.kind);
  if (model.embedding_size < 1) fail("model.embedding_size is {}", model.embedding_size);
  const double dropout = dropout_of(model);
  if (!(dropout >= 0 && dropout < 1)) fail("model.dropout is {}; expected 0 to below 1", dropout);
}

/// One stride-2 3x3 or 7x7 convolution, or a pooling, of "same" padding.
int64_t halved(int64_t size, int64_t stride) { return (size - 1) / stride + 1; }

/// The last feature map, for images of this size.
std::array<int64_t, 2> feature_map(const BackboneConfig& config, std::array<int64_t, 2> size) {
  std::vector<int64_t> strides = config.strides;
  if (config.kind == "resnet") strides.insert(strides.begin(), {2, 2});  // of the stem
  for (const int64_t s : strides) size = {halved(size[0], s), halved(size[1], s)};
  return size;
}

bool recomputes(const ModelConfig& model, const std::string& part) {
  return std::ranges::any_of(model.recompute, [&](const std::string& name) { return name == part || name == "all"; });
}

/// The block itself, or one that is computed again for its backward pass.
std::unique_ptr<Block> kept_or_not(std::unique_ptr<RepeatableBlock> block, bool recompute) {
  if (!recompute) return block;
  return std::make_unique<Recomputed>(std::move(block));
}

ResidualNetwork::Part one(std::string name, std::unique_ptr<Block> block) {
  ResidualNetwork::Part part;
  part.name = std::move(name);
  part.blocks.push_back(std::move(block));
  return part;
}

ResidualNetwork::Part make_stage(const BlockFactory& make, const ModelConfig& model, size_t stage, int64_t in) {
  const BackboneConfig& config = model.backbone;
  ResidualNetwork::Part part;
  part.name = "layer" + std::to_string(stage + 1);
  const bool recompute = recomputes(model, part.name);
  const bool residual = kind_of(config) == Kind::resnet;
  for (int64_t i = 0; i < config.blocks[stage]; ++i) {
    const std::string name = part.name + "." + std::to_string(i);
    const BlockShape shape{in, config.widths[stage], i == 0 ? config.strides[stage] : 1};
    std::unique_ptr<RepeatableBlock> block;
    if (residual) {
      block = std::make_unique<ResidualBlock>(make, name, shape, config.bottleneck);
    } else {
      block = std::make_unique<IrBlock>(make, name, shape);
    }
    part.blocks.push_back(kept_or_not(std::move(block), recompute));
    in = config.widths[stage] * (config.bottleneck ? ResidualBlock::kExpansion : 1);
  }
  return part;
}

InitScheme init_scheme(Kind kind) {
  switch (kind) {
    case Kind::iresnet:
      return InitScheme::arcface_torch;
    case Kind::resnet:
      return InitScheme::torchvision;
    case Kind::plsc:
      return InitScheme::plsc;
  }
  return InitScheme::arcface_torch;
}

}  // namespace

std::unique_ptr<Backbone> make_backbone(Context& context, const ModelConfig& model, std::array<int64_t, 2> image_size,
                                        int64_t channels) {
  const MemoryScope scope(context.device(), MemoryUse::parameters);
  check_config(model);
  const BackboneConfig& config = model.backbone;
  const Kind kind = kind_of(config);
  const std::array<int64_t, 2> map = feature_map(config, image_size);
  auto ops = std::make_unique<ConvOps>();
  BlockFactory make{context.device(), *ops};
  make.synchronised = model.sync_batch_norm.on;
  make.shared_slope = kind == Kind::plsc;
  if (kind == Kind::plsc) make.eps = 2e-5f;

  std::vector<ResidualNetwork::Part> parts;
  parts.push_back(one("stem", kept_or_not(kind == Kind::resnet ? Stem::torchvision(make, channels, config.stem)
                                                               : Stem::prelu(make, channels, config.stem),
                                          recomputes(model, "stem"))));
  int64_t width = config.stem;
  for (size_t stage = 0; stage < config.widths.size(); ++stage) {
    parts.push_back(make_stage(make, model, stage, width));
    width = config.widths[stage] * (config.bottleneck ? ResidualBlock::kExpansion : 1);
  }
  const auto dropout = static_cast<float>(dropout_of(model));
  if (kind == Kind::resnet) {
    parts.push_back(one("tail", std::make_unique<PooledTail>(make, width, model.embedding_size, dropout)));
  } else {
    const IrTail::Options tail{width, width * map[0] * map[1], model.embedding_size, dropout, kind == Kind::iresnet};
    parts.push_back(one("tail", std::make_unique<IrTail>(make, tail)));
  }
  ResidualNetwork::Options options;
  options.name = name_of(config);
  options.height = image_size[0];
  options.width = image_size[1];
  options.channels = channels;
  options.embedding_size = model.embedding_size;
  options.sync = model.sync_batch_norm;
  options.init = init_scheme(kind);
  // The tail's batch norm sees embeddings; those before it see whole feature maps, but for the last stage of small
  // images.
  options.lone_rows = parts.size() - (map[0] * map[1] == 1 ? 2 : kind == Kind::resnet ? 0 : 1);
  return std::make_unique<ResidualNetwork>(std::move(options), std::move(ops), std::move(parts));
}

}  // namespace plsc
