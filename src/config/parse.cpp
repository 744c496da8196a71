// From text to Config: reads the tree, puts the overrides into it, walks it along the table of keys.
#include <algorithm>

#include "base/error.h"
#include "base/files.h"
#include "config/fields.h"
#include "config/nearest.h"
#include "config/validate.h"

namespace plsc {
namespace {

constexpr const char* kCommandLine = "-o";

std::string last_part(const std::string& key) { return key.substr(key.rfind('.') + 1); }

bool is_section(const std::vector<Field>& fields, const std::string& key) {
  return std::any_of(fields.begin(), fields.end(), [&](const Field& f) { return f.key.rfind(key + ".", 0) == 0; });
}

const Field* find_field(const std::vector<Field>& fields, const std::string& key) {
  for (const Field& field : fields)
    if (field.key == key) return &field;
  return nullptr;
}

/// The keys and sections directly below `prefix` ("" or "train."), each once, in order.
std::vector<std::string> children(const std::vector<Field>& fields, const std::string& prefix) {
  std::vector<std::string> names;
  for (const Field& field : fields) {
    if (field.key.rfind(prefix, 0) != 0) continue;
    const std::string rest = field.key.substr(prefix.size());
    const std::string name = rest.substr(0, rest.find('.'));
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

/// The key that a peer calls so: "sample_rate" is head.sampling.ratio.
std::string peers_name_for(const std::vector<Field>& fields, const std::string& name) {
  std::string found;
  for (const Field& field : fields) {
    if (field.peers.arcface_torch == name) return field.key;
    if (found.empty() && ("," + field.peers.plsc + ",").find(name) != std::string::npos) {
      const std::string& peers = field.peers.plsc;
      const size_t at = peers.find(name), end = at + name.size();
      const bool whole =
          (at == 0 || peers[at - 1] == ' ' || peers[at - 1] == '.') && (end == peers.size() || peers[end] == ',');
      if (whole) found = field.key;
    }
  }
  return found;
}

/// The key of this last part; of several the one in the fewest sections: train.momentum means optimizer.momentum, and
/// not head.store.momentum. Empty: none.
std::string key_named(const std::vector<Field>& fields, const std::string& last) {
  const auto depth = [](const std::string& key) { return std::count(key.begin(), key.end(), '.'); };
  std::string found;
  for (const Field& field : fields) {
    if (last_part(field.key) == last && (found.empty() || depth(field.key) < depth(found))) found = field.key;
  }
  return found;
}

/// The valid key that an unknown one most likely means: a slip in this section, the same name in another section, the
/// name that another trainer gives it (before what is deeper inside a section: lr means schedule.base_lr, and not
/// optimizer.head.lr), a slip in another section. Empty: none is near.
std::string suggestion(const std::vector<Field>& fields, const std::string& prefix, const std::string& name) {
  if (const std::string near = nearest(name, children(fields, prefix)); !near.empty()) return prefix + near;
  const std::string same = key_named(fields, name);
  if (std::count(same.begin(), same.end(), '.') == 1) return same;
  if (const std::string key = peers_name_for(fields, name); !key.empty()) return key;
  if (!same.empty()) return same;
  std::vector<std::string> lasts;
  for (const Field& field : fields) lasts.push_back(last_part(field.key));
  const std::string near = nearest(name, lasts);
  return near.empty() ? "" : key_named(fields, near);
}

[[noreturn]] void fail_unknown(const std::vector<Field>& fields, const std::string& prefix, const NodeEntry& entry) {
  const std::string near = suggestion(fields, prefix, entry.key);
  if (!near.empty()) fail("{}: unknown key '{}{}'; did you mean '{}'?", entry.origin, prefix, entry.key, near);
  std::string all;
  for (const std::string& name : children(fields, prefix)) all += (all.empty() ? "" : ", ") + name;
  fail("{}: unknown key '{}{}'; expected one of {}", entry.origin, prefix, entry.key, all);
}

/// "train.batch_size=64" into the tree, in front of what the file says.
void apply_override(const std::vector<Field>& fields, Node& root, const std::string& text) {
  const size_t equals = text.find('=');
  const std::string path = text.substr(0, equals);
  if (equals == std::string::npos || path.empty() || path.front() == '.' || path.back() == '.' ||
      path.find("..") != std::string::npos)
    fail("{} {}: expected key.path=value, such as train.epochs=2", kCommandLine, text);
  Node value = parse_yaml_value(text.substr(equals + 1), kCommandLine);

  Node* at = &root;
  std::string prefix;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    const Field* field = find_field(fields, prefix + name);
    const bool inside_value = !prefix.empty() && find_field(fields, prefix.substr(0, prefix.size() - 1)) != nullptr;
    if (field == nullptr && !inside_value && !is_section(fields, prefix + name))
      fail_unknown(fields, prefix, {name, {}, kCommandLine});
    const bool last = end == path.size();
    if (field != nullptr && !last && !field->takes_mapping)
      fail("{}: unknown key '{}'; {} is one value: {}", kCommandLine, path, field->key, field->expected);
    if (at->kind != Node::Kind::mapping && at->kind != Node::Kind::nothing && !inside_value) {
      std::string all;
      for (const std::string& child : children(fields, prefix)) all += (all.empty() ? "" : ", ") + child;
      fail_value(*at, prefix.substr(0, prefix.size() - 1), fmt::format("a mapping {{{}}}", all));
    }
    if (at->kind != Node::Kind::mapping) {
      // A name, such as margin: arcface, gives way to parts of one's own.
      *at = Node{};
      at->kind = Node::Kind::mapping;
    }
    at->origin = kCommandLine;
    if (at->find(name) == nullptr) at->entries.push_back({name, {}, kCommandLine});
    for (NodeEntry& entry : at->entries)
      if (entry.key == name) entry.origin = kCommandLine;
    at = at->find(name);
    prefix += name + ".";
    begin = end + 1;
  }
  // A whole section: key by key, so that what is not named stays.
  if (value.kind == Node::Kind::mapping && is_section(fields, path)) {
    for (const NodeEntry& entry : value.entries) {
      if (at->kind != Node::Kind::mapping) at->kind = Node::Kind::mapping;
      if (Node* old = at->find(entry.key); old != nullptr) {
        *old = entry.value;
      } else {
        at->entries.push_back(entry);
      }
    }
    return;
  }
  *at = std::move(value);
}

struct Reader {
  const std::vector<Field>& fields;
  Config& config;
  Origins& origins;

  void read_section(const Node& node, const std::string& prefix) {
    for (const NodeEntry& entry : node.entries) {
      const std::string key = prefix + entry.key;
      if (const Field* field = find_field(fields, key); field != nullptr) {
        field->read(entry.value, config);
        origins.given[key] = entry.value.origin;
      } else if (!is_section(fields, key)) {
        fail_unknown(fields, prefix, entry);
      } else if (entry.value.kind == Node::Kind::mapping) {
        read_section(entry.value, key + ".");
      } else if (entry.value.kind != Node::Kind::nothing) {
        std::string all;
        for (const std::string& name : children(fields, key + ".")) all += (all.empty() ? "" : ", ") + name;
        fail_value(entry.value, key, fmt::format("a mapping {{{}}}", all));
      }
    }
  }
};

}  // namespace

LoadedConfig load_config(const std::string& path, const std::vector<std::string>& overrides) {
  return parse_config(read_text(path), path, overrides);
}

LoadedConfig parse_config(const std::string& yaml, const std::string& name, const std::vector<std::string>& overrides) {
  const std::vector<Field> fields = config_fields();
  Node root = parse_yaml(yaml, name);
  if (root.kind == Node::Kind::nothing && overrides.empty())
    fail_hint("the least that a configuration needs is: data: {train: PATH}", "{}: is empty, expected a configuration",
              name);
  if (root.kind != Node::Kind::mapping && root.kind != Node::Kind::nothing)
    fail("{}: found {}, expected keys such as data: {{train: PATH}}", root.origin, root.describe());
  for (const std::string& override_text : overrides) apply_override(fields, root, override_text);

  LoadedConfig loaded;
  Origins origins{name, {}};
  Reader{fields, loaded.config, origins}.read_section(root, "");
  complete_and_validate(loaded.config, origins);
  for (const Field& field : fields) {
    const auto given = origins.given.find(field.key);
    loaded.values.push_back(
        {field.key, field.print(loaded.config), given == origins.given.end() ? "default" : given->second});
  }
  return loaded;
}

}  // namespace plsc
