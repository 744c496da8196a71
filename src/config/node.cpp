// Builds the tree from the YAML library's events (not from its own tree, which hides where values stand and which keys
// stand twice).
#include "config/node.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <sstream>
#include <utility>

#include "base/error.h"

namespace plsc {
namespace {

// Aliases copy what they name; a few lines of nested ones could otherwise ask for any amount of memory.
constexpr int64_t kMaxNodes = 1'000'000;

int64_t count_nodes(const Node& node) {
  int64_t n = 1;
  for (const Node& item : node.items) n += count_nodes(item);
  for (const NodeEntry& entry : node.entries) n += count_nodes(entry.value);
  return n;
}

class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string name, bool with_lines) : name_(std::move(name)), with_lines_(with_lines) {}

  Node take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { add({}, mark, anchor); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) fail("{}: an alias (*) to a value that is not complete there", where(mark));
    nodes_ += count_nodes(found->second);
    // Where the value stands is where it is used: that line says which key is wrong.
    add(found->second, mark, 0);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node node;
    node.kind = Node::Kind::scalar;
    node.text = value;
    node.quoted = tag == "!" || tag == "tag:yaml.org,2002:str";
    add(std::move(node), mark, anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(Node::Kind::list, mark, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(Node::Kind::mapping, mark, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    Node node;
    YAML::anchor_t anchor;
    bool has_key = false;  // mapping: a key waits for its value
    std::string key, key_origin;
  };

  std::string where(const YAML::Mark& mark) const {
    return with_lines_ ? fmt::format("{}:{}", name_, mark.line + 1) : name_;
  }

  void open(Node::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    Open o;
    o.node.kind = kind;
    o.node.origin = where(mark);
    o.anchor = anchor;
    stack_.push_back(std::move(o));
  }

  void close() {
    Open done = std::move(stack_.back());
    stack_.pop_back();
    place(std::move(done.node), done.anchor);
  }

  void add(Node node, const YAML::Mark& mark, YAML::anchor_t anchor) {
    node.origin = where(mark);
    place(std::move(node), anchor);
  }

  void place(Node node, YAML::anchor_t anchor) {
    if (++nodes_ > kMaxNodes) fail("{}: more than {} values, aliases included", node.origin, kMaxNodes);
    if (anchor != 0) anchors_[anchor] = node;
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = stack_.back();
    if (parent.node.kind == Node::Kind::list) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      take_key(parent, node);
    } else {
      // A nested value starts on a line below its key; the key's line is the one that a user looks for.
      if (node.kind != Node::Kind::scalar) node.origin = parent.key_origin;
      parent.node.entries.push_back({std::move(parent.key), std::move(node), std::move(parent.key_origin)});
      parent.has_key = false;
    }
  }

  static void take_key(Open& parent, const Node& node) {
    if (node.kind != Node::Kind::scalar) fail("{}: found {}, expected the name of a key", node.origin, node.describe());
    for (const NodeEntry& entry : parent.node.entries) {
      if (entry.key == node.text)
        fail("{}: key '{}' stands twice; it was given at {} before", node.origin, node.text, entry.origin);
    }
    parent.has_key = true;
    parent.key = node.text;
    parent.key_origin = node.origin;
  }

  std::string name_;
  bool with_lines_;
  Node root_;
  std::vector<Open> stack_;
  std::map<YAML::anchor_t, Node> anchors_;
  int64_t nodes_ = 0;
};

/// 1-based line of the first tab in an indentation, 0 where there is none: the commonest reason for text that looks
/// right and is not YAML.
int64_t line_with_tab(const std::string& text) {
  std::istringstream lines(text);
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    const size_t content = line.find_first_not_of(" \t");
    if (content != std::string::npos && line.find('\t') < content) return number;
  }
  return 0;
}

Node parse(const std::string& text, const std::string& name, bool with_lines) {
  if (with_lines) {
    if (const int64_t line = line_with_tab(text); line > 0)
      fail("{}:{}: found a tab in the indentation, expected spaces", name, line);
  }
  try {
    std::istringstream in(text);
    YAML::Parser parser(in);
    TreeBuilder builder(name, with_lines);
    parser.HandleNextDocument(builder);
    Node node = builder.take();
    if (node.kind == Node::Kind::nothing) node.origin = name;
    TreeBuilder second(name, with_lines);
    if (parser.HandleNextDocument(second)) fail("{}: found several documents ('---'), expected one", name);
    return node;
  } catch (const YAML::Exception& e) {
    if (with_lines && !e.mark.is_null()) fail("{}:{}: not YAML: {}", name, e.mark.line + 1, e.msg);
    fail("{}: not YAML: {}", name, e.msg);
  }
}

bool is_safe_plain(const std::string& text) {
  static constexpr std::string_view kSafe = "_-./+=@%~";
  if (text.empty() || text == "~" || text == "-" || text == "=") return false;
  for (const char* word : {"null", "Null", "NULL", "none", "auto", "off", "xavier", "synthetic", "all"}) {
    if (text == word) return false;
  }
  if (!std::all_of(text.begin(), text.end(), [](unsigned char c) {
        return std::isalnum(c) != 0 || kSafe.find(static_cast<char>(c)) != std::string_view::npos;
      }))
    return false;
  // What YAML gives a meaning at the start of a value.
  return std::string_view("-%@=~").find(text[0]) == std::string_view::npos && text.rfind("...", 0) != 0;
}

}  // namespace

std::string Node::describe() const {
  switch (kind) {
    case Kind::nothing:
      return "nothing";
    case Kind::scalar:
      return fmt::format("'{}'", text);
    case Kind::list:
      return "a list";
    case Kind::mapping:
      return "a mapping";
  }
  return "nothing";
}

const Node* Node::find(std::string_view key) const {
  for (const NodeEntry& entry : entries)
    if (entry.key == key) return &entry.value;
  return nullptr;
}
Node* Node::find(std::string_view key) { return const_cast<Node*>(std::as_const(*this).find(key)); }

Node parse_yaml(const std::string& text, const std::string& name) { return parse(text, name, true); }
Node parse_yaml_value(const std::string& text, const std::string& origin) { return parse(text, origin, false); }

std::string yaml_scalar(const std::string& text) {
  if (is_safe_plain(text)) return text;
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace plsc
