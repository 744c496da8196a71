#include "train/state.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/error.h"

namespace plsc {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kMomentumPrefix = "momentum.";
constexpr const char* kClassNames = "classes.txt";

void read_param(Context& context, const CheckpointReader& reader, Param& param) {
  reader.read(context, "backbone", param.name, param.value);
}

/// visit(key, field) for each field that every manifest holds.
template <class Meta, class Visit>
void for_each_field(Meta& m, Visit&& visit) {
  visit("epoch", m.epoch);
  visit("steps_per_epoch", m.steps_per_epoch);
  visit("total_steps", m.total_steps);
  visit("global_batch", m.global_batch);
  visit("samples", m.samples);
  visit("classes", m.classes);
  visit("embedding_size", m.embedding_size);
  visit("seed", m.seed);
  visit("model", m.model);
  visit("versions", m.versions);
  visit("device", m.device);
  visit("ranks", m.ranks);
  visit("config", m.config);
}

std::string head_group(const HeadRows& rows) { return rows.name == "centers" ? "head" : "head_optimizer"; }

const CheckpointReader::TensorInfo* find(const std::vector<CheckpointReader::TensorInfo>& tensors,
                                         const std::string& group, const std::string& name) {
  for (const auto& t : tensors)
    if (t.group == group && t.name == name) return &t;
  return nullptr;
}

/// Every tensor of the backbone must be there with its shape, and none beside.
void require_same_model(const CheckpointReader& reader, Backbone& backbone) {
  const auto tensors = reader.tensors();
  const std::string hint =
      "train into another output folder, or take the weights alone: init: {from: " + reader.folder() + "}";
  size_t expected = 0;
  for (const Param* p : backbone.params()) {
    ++expected;
    const auto* found = find(tensors, "backbone", p->name);
    if (found == nullptr) {
      fail_hint(hint, "{} is a checkpoint of another model: it has no tensor '{}', which {} needs", reader.folder(),
                p->name, backbone.description());
    }
    if (!(found->shape == p->value.shape())) {
      fail_hint(hint, "{} is a checkpoint of another model: '{}' is {} there, and {} in {}", reader.folder(), p->name,
                found->shape.text(), p->value.shape().text(), backbone.description());
    }
  }
  size_t stored = 0;
  for (const auto& t : tensors) stored += t.group == "backbone";
  if (stored != expected) {
    fail_hint(hint, "{} is a checkpoint of another model: it has {} backbone tensors, {} has {}", reader.folder(),
              stored, backbone.description(), expected);
  }
}

void require_same_head(const CheckpointReader& reader, MarginHead& head) {
  const auto tensors = reader.tensors();
  const auto* centers = find(tensors, "head", "centers");
  const Shape expected{head.shard().total, head.embedding_size()};
  if (centers == nullptr) fail("{} holds no class centres", reader.folder());
  if (!(centers->shape == expected)) {
    fail_hint("to go on with other classes start a new output folder with init: {from: " + reader.folder() + "}",
              "{} holds class centres of {} (classes, embedding size), this configuration has {}", reader.folder(),
              centers->shape.text(), expected.text());
  }
}

void restore_head(Context& context, const CheckpointReader& reader, MarginHead& head, RestoreFor purpose) {
  require_same_head(reader, head);
  std::vector<std::string> stored;
  for (const auto& t : reader.tensors())
    if (t.group == "head" || t.group == "head_optimizer") stored.push_back(t.name);
  for (HeadRows& rows : head.state_to_fill(stored, purpose)) {
    if (reader.has(head_group(rows), rows.name)) {
      reader.read_rows(context, head_group(rows), rows.name, head.shard().begin, rows.rows);
    }
  }
  // A lone .safetensors file has no manifest, and rows that do not lag.
  if (reader.ranks() == 0) return;
  const RunMeta meta = RunMeta::from_json(reader.meta(), reader.folder());
  if (!meta.head_table.empty()) head.restore_table(meta.head_table);
}

}  // namespace

std::string RunMeta::to_json() const {
  Json j;
  for_each_field(*this, [&](const char* key, const auto& value) { j[key] = value; });
  if (loss_scale) j["loss_scale"] = {loss_scale->scale, loss_scale->good_steps};
  if (!head_table.empty()) j["head_table"] = Json::parse(head_table);
  return j.dump();
}

RunMeta RunMeta::from_json(const std::string& text, const std::string& where) {
  try {
    const Json j = Json::parse(text);
    RunMeta m;
    for_each_field(m, [&](const char* key, auto& value) { j.at(key).get_to(value); });
    if (j.contains("loss_scale")) {
      m.loss_scale = math::LossScale{j["loss_scale"].at(0), j["loss_scale"].at(1)};
      if (!(m.loss_scale->scale > 0 && m.loss_scale->scale <= math::LossScaleRule().largest)) {
        fail_hint("use another checkpoint", "{}: a loss scale of {} in the manifest's \"meta\"", where,
                  m.loss_scale->scale);
      }
    }
    if (j.contains("head_table")) m.head_table = j["head_table"].dump();
    return m;
  } catch (const nlohmann::json::exception& e) {
    fail_hint("the manifest was written by another program or edited by hand; use another checkpoint",
              "{}: the manifest's \"meta\" cannot be read: {}", where, e.what());
  }
}

CheckpointContent collect_state(Backbone& backbone, MarginHead& head, int64_t step, const RunMeta& meta,
                                const std::vector<std::string>& names) {
  CheckpointContent content;
  content.step = step;
  RunMeta full = meta;
  full.head_table = head.state_table();
  content.meta = full.to_json();
  for (Param* p : backbone.params()) {
    content.backbone.push_back({p->name, p->value});
    if (p->trainable() && p->momentum.defined()) content.optimizer.push_back({kMomentumPrefix + p->name, p->momentum});
  }
  for (HeadRows& rows : head.state()) {
    auto& group = head_group(rows) == "head" ? content.head : content.head_optimizer;
    group.push_back({rows.name, rows.rows, head.shard().begin, head.shard().total});
  }
  if (!names.empty()) content.texts.push_back({kClassNames, class_names_text(names)});
  return content;
}

std::string class_names_text(const std::vector<std::string>& names) {
  std::string text;
  for (size_t id = 0; id < names.size(); ++id) text += fmt::format("{}\t{}\n", id, names[id]);
  return text;
}

std::vector<std::string> class_names(const CheckpointReader& reader) {
  std::istringstream text(reader.text(kClassNames));
  std::vector<std::string> names;
  for (std::string line; std::getline(text, line);) names.push_back(line.substr(line.find('\t') + 1));
  return names;
}

void require_same_classes(const CheckpointReader& reader, const std::vector<std::string>& names) {
  const std::vector<std::string> stored = class_names(reader);
  if (stored.empty() || names.empty()) return;
  for (size_t id = 0; id < std::min(stored.size(), names.size()); ++id) {
    if (stored[id] == names[id]) continue;
    fail_hint("train on the same classes, or start a new output folder with init: {from: " + reader.folder() + "}",
              "{}: class {} is '{}' there, and '{}' in data.train: its class centres belong to other classes",
              reader.folder(), id, stored[id], names[id]);
  }
}

void restore_backbone(Context& context, const CheckpointReader& reader, Backbone& backbone) {
  require_same_model(reader, backbone);
  for (Param* p : backbone.params()) read_param(context, reader, *p);
}

void restore_centers(Context& context, const CheckpointReader& reader, MarginHead& head) {
  restore_head(context, reader, head, RestoreFor::weights);
  head.start_over();
}

void restore_state(Context& context, const CheckpointReader& reader, Backbone& backbone, MarginHead& head) {
  restore_backbone(context, reader, backbone);
  for (Param* p : backbone.params()) {
    const std::string momentum = kMomentumPrefix + p->name;
    if (!p->trainable() || !reader.has("optimizer", momentum)) continue;
    if (!p->momentum.defined()) p->momentum = context.device().tensor(p->value.shape());
    reader.read(context, "optimizer", momentum, p->momentum);
  }
  restore_head(context, reader, head, RestoreFor::training);
}

void init_weights(Context& context, const InitConfig& config, Backbone& backbone, MarginHead& head) {
  const auto reader = CheckpointReader::open(config.from);
  const auto tensors = reader->tensors();
  std::set<const Param*> taken;
  int64_t missing = 0;
  std::string first_missing;
  for (Param* p : backbone.params()) {
    const auto* found = find(tensors, "backbone", p->name);
    if (found == nullptr) {
      if (missing++ == 0) first_missing = p->name;
      continue;
    }
    if (!(found->shape == p->value.shape())) {
      fail_hint("make model.* the same as in the run that wrote these weights",
                "init.from: {}: '{}' is {} there, and {} in {}", config.from, p->name, found->shape.text(),
                p->value.shape().text(), backbone.description());
    }
    read_param(context, *reader, *p);
    taken.insert(p);
  }
  if (taken.empty()) {
    fail_hint("names must be those of arcface_torch (iresnet) or torchvision (resnet)",
              "init.from: {}: none of its {} tensors fits {}", config.from, tensors.size(), backbone.description());
  }
  backbone.init(context, [&](const Param& p) { return !taken.contains(&p); });
  context.log.info("init: {} of {} backbone tensors from {}", taken.size(),
                   static_cast<int64_t>(taken.size()) + missing, config.from);
  if (missing > 0)
    context.log.warn("init: {} tensors keep their random start, the first is '{}'", missing, first_missing);

  const auto* centers = find(tensors, "head", "centers");
  const Shape expected{head.shard().total, head.embedding_size()};
  const bool fits = centers != nullptr && centers->shape == expected;
  if (config.head == "true" && !fits) {
    fail_hint("use init.head: auto", "init.head is true, but {} {}", config.from,
              centers == nullptr ? "holds no class centres"
                                 : fmt::format("has centres of {}, and this configuration {}", centers->shape.text(),
                                               expected.text()));
  }
  if (config.head != "false" && fits) {
    restore_centers(context, *reader, head);
    context.log.info("init: class centres {} from {}", expected.text(), config.from);
  } else {
    head.init();
    context.log.info("init: class centres start at random");
  }
}

}  // namespace plsc
