// A YAML document as a tree in which every value knows where it stands ("file.yaml:12"). node.cpp is the only user of
// the YAML library.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace plsc {

struct NodeEntry;

struct Node {
  enum class Kind { nothing, scalar, list, mapping };
  Kind kind = Kind::nothing;
  std::string text;     // scalar
  bool quoted = false;  // scalar: written in quotes, so 'none' is a text and not the word none
  std::vector<Node> items;
  std::vector<NodeEntry> entries;
  std::string origin;  // "file.yaml:12" or "-o"

  /// A scalar without quotes that is this word.
  bool is_word(std::string_view word) const { return kind == Kind::scalar && !quoted && text == word; }
  /// "'abc'", "a list", "a mapping", "nothing": for messages.
  std::string describe() const;
  const Node* find(std::string_view key) const;
  Node* find(std::string_view key);
};

struct NodeEntry {
  std::string key;
  Node value;
  std::string origin;  // of the key
};

/// Reads one document. `name` stands in the origins: "name:line". Anchors and aliases are resolved. Throws Error naming
/// line and reason for text that is not YAML, a key that stands twice in one mapping, tabs, several documents.
Node parse_yaml(const std::string& text, const std::string& name);

/// A value given on the command line: its origin is `origin`, without a line.
Node parse_yaml_value(const std::string& text, const std::string& origin);

/// Text as a YAML scalar that reads back to it: plain where that is safe, else in double quotes.
std::string yaml_scalar(const std::string& text);

}  // namespace plsc
