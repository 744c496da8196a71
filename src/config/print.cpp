// From Config to text: the effective configuration as YAML, and the reference of all keys.
#include <algorithm>
#include <map>

#include "base/error.h"
#include "config/fields.h"

namespace plsc {
namespace {

std::vector<std::string> parts_of(const std::string& key) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= key.size();) {
    const size_t end = std::min(key.find('.', begin), key.size());
    parts.push_back(key.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

/// Nested keys, two spaces a level; `comment` (by key) goes behind the values.
std::string print(const Config& config, const std::map<std::string, std::string>& comment) {
  std::string out;
  std::vector<std::string> open;
  for (const Field& field : config_fields()) {
    std::vector<std::string> parts = parts_of(field.key);
    const std::string name = parts.back();
    parts.pop_back();
    size_t same = 0;
    while (same < parts.size() && same < open.size() && parts[same] == open[same]) ++same;
    for (size_t i = same; i < parts.size(); ++i) out += std::string(2 * i, ' ') + parts[i] + ":\n";
    open = parts;
    std::string line = std::string(2 * parts.size(), ' ') + name + ": " + field.print(config);
    if (const auto found = comment.find(field.key); found != comment.end())
      line = fmt::format("{:<48}  # {}", line, found->second);
    out += line + "\n";
  }
  return out;
}

/// Text in a cell of a Markdown table.
std::string cell(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '|' ? "\\|" : std::string(1, c);
  return out;
}

}  // namespace

std::string to_yaml(const Config& config) { return print(config, {}); }

std::string to_annotated_yaml(const LoadedConfig& loaded) {
  std::map<std::string, std::string> origins;
  for (const ValueOrigin& value : loaded.values) origins[value.key] = value.origin;
  return print(loaded.config, origins);
}

std::vector<std::string> training_differences(const Config& then, const Config& now) {
  const auto shapes_weights = [](const std::string& key) {
    for (const char* other :
         {"data.train", "data.workers", "data.cache", "data.on_error", "model.recompute", "train.threads"})
      if (key.rfind(other, 0) == 0) return false;
    for (const char* part :
         {"seed", "data.", "model.", "head.", "optimizer.", "schedule.", "train.", "comm.dtype", "comm.compress."})
      if (key.rfind(part, 0) == 0) return true;
    return false;
  };
  std::vector<std::string> found;
  for (const Field& field : config_fields()) {
    const std::string a = field.print(then), b = field.print(now);
    if (a != b && shapes_weights(field.key)) found.push_back(fmt::format("{} {} -> {}", field.key, a, b));
  }
  return found;
}

std::string config_reference() {
  const Config defaults;
  std::string out, section = "?";
  for (const Field& field : config_fields()) {
    const bool nested = field.key.find('.') != std::string::npos;
    if (const std::string now = nested ? parts_of(field.key)[0] : ""; now != section) {
      section = now;
      out += fmt::format(
          "{}### {}\n\n| key | default | value | meaning | arcface_torch | PLSC |\n| --- | --- | --- | --- | --- | --- "
          "|\n",
          out.empty() ? "" : "\n", section.empty() ? "The run" : section);
    }
    const bool required = field.key == "data.train";
    out += fmt::format("| `{}` | {} | {} | {} | {} | {} |\n", field.key,
                       required ? "required" : "`" + cell(field.print(defaults)) + "`", cell(field.expected),
                       cell(field.meaning), cell(field.peers.arcface_torch), cell(field.peers.plsc));
  }
  return out;
}

}  // namespace plsc
