#include "train/state.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "base/files.h"
#include "checkpoint/block_file.h"
#include "train/compressed_state.h"

namespace plsc {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kMomentumPrefix = "momentum.";
// AdamW's and LAMB's two, as torch.optim.AdamW calls them.
constexpr const char* kMeanPrefix = "exp_avg.";
constexpr const char* kSquaresPrefix = "exp_avg_sq.";
constexpr const char* kAverages = "backbone_ema";
constexpr const char* kClassNames = "classes.txt";
constexpr const char* kGraphGroup = "head_optimizer";
constexpr const char* kGraphName = "neighbours";

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

/// Where a run keeps an average, it has one of every tensor.
bool has_averages(const CheckpointReader& reader) {
  return std::ranges::any_of(reader.tensors(), [](const auto& t) { return t.group == kAverages; });
}

/// Every tensor of the backbone must be there with its shape, and none beside.
void require_same_model(const CheckpointReader& reader, Backbone& backbone) {
  const std::string hint =
      "train into another output folder, or take the weights alone: init: {from: " + reader.folder() + "}";
  size_t expected = 0;
  for (const Param* p : backbone.params()) {
    ++expected;
    const auto found = reader.find("backbone", p->name);
    if (!found) {
      fail_hint(hint, "{} is a checkpoint of another model: it has no tensor '{}', which {} needs", reader.folder(),
                p->name, backbone.description());
    }
    if (!(found->shape == p->value.shape())) {
      fail_hint(hint, "{} is a checkpoint of another model: '{}' is {} there, and {} in {}", reader.folder(), p->name,
                found->shape.text(), p->value.shape().text(), backbone.description());
    }
  }
  size_t stored = 0;
  for (const auto& t : reader.tensors()) stored += t.group == "backbone";
  if (stored != expected) {
    fail_hint(hint, "{} is a checkpoint of another model: it has {} backbone tensors, {} has {}", reader.folder(),
              stored, backbone.description(), expected);
  }
}

void require_same_head(const CheckpointReader& reader, const ClassMap& classes, MarginHead& head) {
  const auto centers = reader.find("head", "centers");
  const Shape expected{classes.stored, head.row_columns()};
  if (!centers) fail("{} holds no class centres", reader.folder());
  if (const auto kind = head_kind(reader); kind && !same_rows(*kind, head.kind())) {
    fail_hint("set head.kind: " + *kind + ", or train into another output folder",
              "{} is a checkpoint of a run with head.kind {}, expected {}: that of this configuration", reader.folder(),
              *kind, head.kind());
  }
  if (!(centers->shape == expected)) {
    fail("{} holds class centres of {} (classes, columns), expected {}", reader.folder(), centers->shape.text(),
         expected.text());
  }
}

/// Consecutive rows of this rank whose stored rows are consecutive, too.
struct Run {
  int64_t row = 0, stored = 0, count = 0;
};
struct LocalRows {
  std::vector<Run> runs;       // by stored row, so that each block of a file is read once
  std::vector<int64_t> fresh;  // rows that the checkpoint does not have
};
LocalRows local_rows(const ClassMap& classes, const ClassShard& shard) {
  LocalRows out;
  if (classes.same()) {
    out.runs.push_back({0, shard.begin, shard.size()});
    return out;
  }
  for (int64_t row = 0; row < shard.size(); ++row) {
    const int64_t stored = classes.from[static_cast<size_t>(shard.begin + row)];
    if (stored < 0) {
      out.fresh.push_back(row);
    } else if (!out.runs.empty() && out.runs.back().row + out.runs.back().count == row &&
               out.runs.back().stored + out.runs.back().count == stored) {
      ++out.runs.back().count;
    } else {
      out.runs.push_back({row, stored, 1});
    }
  }
  std::ranges::sort(out.runs, {}, &Run::stored);
  return out;
}

void restore_moments(Context& context, const CheckpointReader& reader, Backbone& backbone) {
  const auto read_moment = [&](const std::string& name, const Param& p, Tensor& moment) {
    if (!reader.has("optimizer", name)) return;
    if (!moment.defined()) moment = context.device().tensor(p.value.shape());
    reader.read(context, "optimizer", name, moment);
  };
  for (Param* p : backbone.params()) {
    if (!p->trainable() || p->part.defined()) continue;
    read_moment(kMomentumPrefix + p->name, *p, p->momentum);
    read_moment(kMeanPrefix + p->name, *p, p->momentum);
    read_moment(kSquaresPrefix + p->name, *p, p->squares);
  }
}

void restore_head(Context& context, const CheckpointReader& reader, MarginHead& head, RestoreFor purpose,
                  const ClassMap& classes) {
  require_same_head(reader, classes, head);
  const LocalRows local = local_rows(classes, head.shard());
  if (!classes.same()) head.init();  // the classes that are new: on every rank, whether it has one or not
  std::vector<std::string> stored;
  for (const auto& t : reader.tensors())
    if (t.group == "head" || t.group == "head_optimizer") stored.push_back(t.name);
  read_together(context, [&] {
    for (HeadRows& rows : head.state_to_fill(stored, purpose)) {
      if (!reader.has(head_group(rows), rows.name)) continue;
      for (const Run& run : local.runs) {
        Tensor part = rows.rows.rows(run.row, run.count);
        reader.read_rows(context, head_group(rows), rows.name, run.stored, part);
      }
    }
  });
  // A lone .safetensors file has no manifest, and rows that do not lag.
  if (reader.ranks() == 0) return;
  const RunMeta meta = RunMeta::from_json(reader.meta(), reader.folder());
  if (!meta.head_table.empty()) head.restore_table(meta.head_table, {local.fresh, classes.moved > 0});
}

/// Why the checkpoint's class graph cannot be taken; empty where it can.
std::string graph_obstacle(const CheckpointReader& reader, const ClassGraph& graph, const ClassMap& classes) {
  if (!classes.same()) return "it is of other classes";
  const auto found = reader.find(kGraphGroup, kGraphName);
  const Shape expected{classes.classes, graph.spec().neighbours};
  if (found && found->dtype == Dtype::i32 && found->shape.size() == 2 && found->shape[0] == expected[0] &&
      found->shape[1] >= expected[1]) {
    return {};
  }
  return fmt::format("it is of {} (classes, neighbours), expected {} or wider", found ? found->shape.text() : "nothing",
                     expected.text());
}

/// The first columns of what is stored: the nearest of the nearest. A few rows at a time where that has more of them.
void read_graph(Context& context, const CheckpointReader& reader, int64_t first_class, Tensor& lists) {
  const int64_t stored = reader.find(kGraphGroup, kGraphName)->shape[1], columns = lists.dim(1);
  const int64_t piece = stored == columns ? lists.dim(0) : kListBytes / (stored * int64_t{sizeof(int32_t)}) + 1;
  for (int64_t begin = 0; begin < lists.dim(0); begin += piece) {
    const int64_t count = std::min(piece, lists.dim(0) - begin);
    Tensor to = lists.rows(begin, count);
    Tensor wide = stored == columns ? to : Tensor(host_allocator(), {count, stored}, Dtype::i32);
    reader.read_rows(context, kGraphGroup, kGraphName, first_class + begin, wide);
    if (stored == columns) continue;
    for (int64_t row = 0; row < count; ++row) {
      std::copy_n(wide.data<int32_t>() + row * stored, columns, to.data<int32_t>() + row * columns);
    }
  }
}

void restore_graph(Context& context, const CheckpointReader& reader, MarginHead& head, const ClassMap& classes) {
  ClassGraph& graph = *head.graph();
  const RunMeta meta = RunMeta::from_json(reader.meta(), reader.folder());
  if (!meta.graph) return;
  if (const std::string why = graph_obstacle(reader, graph, classes); !why.empty()) {
    context.log.warn("the class graph of {} is left: {}; this run builds its own", reader.folder(), why);
    return;
  }
  Tensor lists = graph.lists();
  read_together(context, [&] { read_graph(context, reader, head.shard().begin, lists); });
  graph.restore(context, lists, *meta.graph);
}

}  // namespace

std::string RunMeta::to_json() const {
  Json j;
  for_each_field(*this, [&](const char* key, const auto& value) { j[key] = value; });
  j["optimizer"] = optimizer;
  if (updates) j["updates"] = *updates;
  if (images) j["images"] = *images;
  if (loss_scale) j["loss_scale"] = {loss_scale->scale, loss_scale->good_steps};
  if (!head_table.empty()) j["head_table"] = Json::parse(head_table);
  if (graph) j["class_graph"] = {{"built", graph->built}, {"probed", graph->probed}};
  if (compressed_nodes > 0) j["compressed_nodes"] = compressed_nodes;
  if (!class_map.empty()) j["class_map"] = class_map;
  j["head_kind"] = head_kind;
  return j.dump();
}

RunMeta RunMeta::from_json(const std::string& text, const std::string& where) {
  try {
    const Json j = Json::parse(text);
    RunMeta m;
    for_each_field(m, [&](const char* key, auto& value) { j.at(key).get_to(value); });
    if (j.contains("optimizer")) j["optimizer"].get_to(m.optimizer);  // older checkpoints have the one kind
    if (j.contains("updates")) {
      m.updates = j["updates"].get<int64_t>();
      if (*m.updates < 0) {
        fail_hint("use another checkpoint", "{}: {} updates in the manifest's \"meta\"", where, *m.updates);
      }
    }
    if (j.contains("images")) m.images = j["images"].get<int64_t>();
    if (j.contains("loss_scale")) {
      m.loss_scale = math::LossScale{j["loss_scale"].at(0), j["loss_scale"].at(1)};
      if (!(m.loss_scale->scale > 0 && m.loss_scale->scale <= math::LossScaleRule().largest)) {
        fail_hint("use another checkpoint", "{}: a loss scale of {} in the manifest's \"meta\"", where,
                  m.loss_scale->scale);
      }
    }
    if (j.contains("head_table")) m.head_table = j["head_table"].dump();
    if (j.contains("class_graph")) {
      m.graph = GraphAge{j["class_graph"].at("built"), j["class_graph"].at("probed")};
    }
    if (j.contains("compressed_nodes")) j["compressed_nodes"].get_to(m.compressed_nodes);
    if (j.contains("class_map")) j["class_map"].get_to(m.class_map);
    if (j.contains("head_kind")) j["head_kind"].get_to(m.head_kind);  // older checkpoints have the one kind
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
  full.head_kind = head.kind();
  const bool has_graph = head.graph() != nullptr && head.graph()->built();
  if (has_graph) full.graph = head.graph()->age();
  full.compressed_nodes = collect_compressed(backbone.params(), content);
  content.meta = full.to_json();
  const bool averaged = std::ranges::any_of(backbone.params(), [](const Param* p) { return p->average.defined(); });
  for (Param* p : backbone.params()) {
    content.backbone.push_back({p->name, p->value});
    if (averaged) content.backbone_ema.push_back({p->name, p->average.defined() ? p->average : p->value});
    if (!p->trainable() || !p->momentum.defined() || p->part.defined()) continue;
    const bool second = p->squares.defined();
    content.optimizer.push_back({(second ? kMeanPrefix : kMomentumPrefix) + p->name, p->momentum});
    if (second) content.optimizer.push_back({kSquaresPrefix + p->name, p->squares});
  }
  for (HeadRows& rows : head.state()) {
    auto& group = head_group(rows) == "head" ? content.head : content.head_optimizer;
    group.push_back({rows.name, rows.rows, head.shard().begin, head.shard().total});
  }
  if (has_graph) content.head_optimizer.push_back(graph_rows(head));
  if (!names.empty()) content.texts.push_back({kClassNames, class_names_text(names)});
  return content;
}

NamedRows graph_rows(MarginHead& head) {
  return {kGraphName, head.graph()->lists(), head.shard().begin, head.shard().total};
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

ClassMap plan_classes(const CheckpointReader& reader, const HeadConfig& config, const ClassList& now, Leaving leaving) {
  const auto centers = reader.find("head", "centers");
  if (!centers) fail("{} holds no class centres", reader.folder());
  const std::vector<std::string> names = class_names(reader);
  ClassMapping mapping;
  const bool applied =
      reader.ranks() > 0 && RunMeta::from_json(reader.meta(), reader.folder()).class_map == class_map_key(config);
  if (!config.class_map.empty() && !applied) mapping = {config.class_map, read_text(config.class_map)};
  return map_classes({centers->shape[0], names}, now, {mapping, leaving, reader.folder()});
}

std::optional<std::string> head_kind(const CheckpointReader& reader) {
  if (reader.ranks() == 0) return {};
  return RunMeta::from_json(reader.meta(), reader.folder()).head_kind;
}

std::string class_map_key(const HeadConfig& config) {
  if (config.class_map.empty()) return {};
  const std::string text = read_text(config.class_map);
  return checksum_text(checksum(std::as_bytes(std::span(text))));
}

Weights evaluated_weights(const EvalConfig& config) { return config.weights == "ema" ? Weights::ema : Weights::raw; }

void restore_backbone(Context& context, const CheckpointReader& reader, Backbone& backbone, Weights weights) {
  require_same_model(reader, backbone);
  if (weights == Weights::ema && !has_averages(reader)) {
    fail_hint("take the weights as they are: --weights raw, or eval: {weights: raw}",
              "{} holds no averaged weights beside its weights: a file has the one kind, and a checkpoint both where "
              "train.ema was on",
              reader.folder());
  }
  for (Param* p : backbone.params())
    reader.read(context, weights == Weights::ema ? kAverages : "backbone", p->name, p->value);
}

bool restore_averages(Context& context, const CheckpointReader& reader, Backbone& backbone) {
  if (!has_averages(reader)) return false;
  read_together(context, [&] {
    for (Param* p : backbone.params()) {
      if (p->value.dtype() != Dtype::f32) continue;
      if (!p->average.defined()) p->average = context.device().tensor(p->value.shape());
      reader.read(context, kAverages, p->name, p->average);
    }
  });
  return true;
}

void restore_centers(Context& context, const CheckpointReader& reader, MarginHead& head, const ClassMap& classes) {
  restore_head(context, reader, head, RestoreFor::weights, classes);
  head.start_over();
}

void require_same_optimizer(const CheckpointReader& reader, const OptimizerConfig& config) {
  const std::string stored = RunMeta::from_json(reader.meta(), reader.folder()).optimizer;
  const auto before = math::update_kind(stored), now = math::update_kind(config.name);
  if (before && now && math::same_state(*before, *now)) return;
  fail_hint(
      "set optimizer.name: " + stored +
          ", or train into another output folder from the weights alone: init: {from: " + reader.folder() + "}",
      "{} was written by a run with optimizer.name {}, expected {}: the moments of one optimizer are of no use to "
      "another",
      reader.folder(), stored, config.name);
}

void restore_state(Context& context, const CheckpointReader& reader, Backbone& backbone, MarginHead& head,
                   const ClassMap& classes) {
  const RunMeta meta = RunMeta::from_json(reader.meta(), reader.folder());
  read_together(context, [&] {
    restore_backbone(context, reader, backbone);
    restore_moments(context, reader, backbone);
    restore_compressed(context, reader, backbone.params(), meta.compressed_nodes);
  });
  restore_head(context, reader, head, RestoreFor::training, classes);
  if (head.graph() != nullptr) restore_graph(context, reader, head, classes);
}

}  // namespace plsc
