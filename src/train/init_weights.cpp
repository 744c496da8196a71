#include "train/init_weights.h"

#include <optional>
#include <set>

#include "base/error.h"

namespace plsc {
namespace {

void init_backbone(Context& context, const CheckpointReader& reader, Backbone& backbone) {
  std::set<const Param*> taken;
  int64_t missing = 0;
  std::string first_missing;
  for (Param* p : backbone.params()) {
    const auto found = reader.find("backbone", p->name);
    if (!found) {
      if (missing++ == 0) first_missing = p->name;
      continue;
    }
    if (!(found->shape == p->value.shape())) {
      fail_hint("make model.* the same as in the run that wrote these weights",
                "init.from: {}: '{}' is {} there, and {} in {}", reader.folder(), p->name, found->shape.text(),
                p->value.shape().text(), backbone.description());
    }
    reader.read(context, "backbone", p->name, p->value);
    taken.insert(p);
  }
  if (taken.empty()) {
    fail_hint("names must be those of arcface_torch (iresnet) or torchvision (resnet)",
              "init.from: {}: none of its {} tensors fits {}", reader.folder(), reader.tensors().size(),
              backbone.description());
  }
  backbone.init(context, [&](const Param& p) { return !taken.contains(&p); });
  context.log.info("init: {} of {} backbone tensors from {}", taken.size(),
                   static_cast<int64_t>(taken.size()) + missing, reader.folder());
  if (missing > 0)
    context.log.warn("init: {} tensors keep their random start, the first is '{}'", missing, first_missing);
}

/// Nothing where the centres there are not, or may not be, those of this run's classes; then `why` says so.
std::optional<ClassMap> centers_to_take(const CheckpointReader& reader, const Config& config, const MarginHead& head,
                                        const std::vector<std::string>& names, std::string& why) {
  const int64_t classes = head.shard().total;
  const auto centers = reader.find("head", "centers");
  if (!centers) {
    why = "it holds no class centres";
    return {};
  }
  if (const auto kind = head_kind(reader); kind && !same_rows(*kind, head.kind())) {
    why = fmt::format("it is of head.kind {}, this configuration of {}", *kind, head.kind());
    return {};
  }
  if (centers->shape[1] != head.row_columns()) {
    why = fmt::format("its centres have {} columns, this configuration {}", centers->shape[1], head.row_columns());
    return {};
  }
  const bool known = !config.head.class_map.empty() || (!names.empty() && !class_names(reader).empty());
  if (!known && config.init.head == "auto" && centers->shape[0] != classes) {
    why =
        fmt::format("it has {} classes, this run {}, and nothing tells which are the same", centers->shape[0], classes);
    return {};
  }
  // Another set of classes is what one fine-tunes on: only numbers are no proof that those that are gone may go.
  ClassMap map = plan_classes(reader, config.head, {classes, names}, known ? Leaving::allowed : Leaving::error);
  if (!map.same() && map.added == (names.empty() ? classes : static_cast<int64_t>(names.size()))) {
    why = "it has none of this run's classes";
    return {};
  }
  return map;
}

}  // namespace

void init_weights(Context& context, const Config& config, Backbone& backbone, MarginHead& head,
                  const std::vector<std::string>& names) {
  const auto reader = CheckpointReader::open(config.init.from);
  init_backbone(context, *reader, backbone);
  std::string why = "init.head is false";
  std::optional<ClassMap> map;
  if (config.init.head != "false") map = centers_to_take(*reader, config, head, names, why);
  if (map) {
    restore_centers(context, *reader, head, *map);
    context.log.info("init: class centres from {}{}", reader->folder(), map->same() ? "" : ": " + map->text());
    return;
  }
  if (config.init.head == "true") {
    fail_hint("use init.head: auto", "init.head is true, but no class centre can be taken from {}: {}",
              reader->folder(), why);
  }
  head.init();
  context.log.info("init: class centres start at random: {}", why);
}

}  // namespace plsc
