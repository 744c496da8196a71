// Kinds of values: how each is read from a node, checked and printed as YAML that reads back to the same value.
#pragma once
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "config/node.h"

namespace plsc {

/// Throws "origin: key: found 'abc', expected a whole number" (and `suffix` behind it).
[[noreturn]] void fail_value(const Node& node, const std::string& key, const std::string& expected,
                             const std::string& suffix = "");

/// "; did you mean 'arcface'?" where the node is a text near one of the words, else "".
std::string near_word(const Node& node, const std::vector<std::string>& words);

template <class T>
struct ValueType {
  std::string expected;  // "a whole number >= 1": for messages and the reference
  /// Nothing where the node is not that; throws Error by itself where it can say more.
  std::function<std::optional<T>(const Node& node, const std::string& key)> read;
  std::function<std::string(const T&)> print;
  std::vector<std::string> words;  // that it takes, for "did you mean"
  bool takes_mapping = false;      // -o key.part=value may reach into it
};

/// Reads a value, or throws what `fail_value` says, with the nearest of the type's words.
template <class T>
T read_value(const Node& node, const std::string& key, const ValueType<T>& type) {
  std::optional<T> value = type.read(node, key);
  if (!value) fail_value(node, key, type.expected, near_word(node, type.words));
  return std::move(*value);
}

/// Bounds of a number. Open bounds are excluded.
struct Range {
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
  bool low_open = false, high_open = false;
  bool contains(double x) const;
  std::string text() const;  // " > 0", " in [0, 1)"
};
inline Range at_least(double low) { return {low}; }
inline Range above(double low) { return {low, std::numeric_limits<double>::infinity(), true}; }

ValueType<int64_t> whole(int64_t low, int64_t high = int64_t{1} << 48);
ValueType<uint64_t> whole_64_bits();
ValueType<double> number(Range range);
ValueType<bool> boolean();
ValueType<std::string> text();
ValueType<std::string> text_or_none();  // the empty text is the word none
ValueType<std::string> one_of(std::vector<std::string> words);
ValueType<int64_t> bytes();   // 8GiB, 500MB, 1048576
ValueType<double> seconds();  // 10min, 90s, 1.5h, 600
ValueType<std::array<int64_t, 2>> image_size();
ValueType<std::vector<AugmentConfig>> augmentations();
ValueType<SyncBatchNorm> sync_batch_norm();
ValueType<BackboneConfig> backbone();
ValueType<MarginConfig> margin();
ValueType<std::vector<EvalSetConfig>> eval_sets();

/// Zero is the word: "auto", "none".
template <class T>
ValueType<T> zero_is(std::string word, ValueType<T> base) {
  ValueType<T> type;
  type.expected = base.expected + ", or " + word;
  type.words = {word};
  type.read = [word, base](const Node& node, const std::string& key) -> std::optional<T> {
    if (node.is_word(word)) return T{0};
    return base.read(node, key);
  };
  type.print = [word, base](const T& value) { return value == T{0} ? word : base.print(value); };
  return type;
}

/// No value is the word: "off", "none".
template <class T>
ValueType<std::optional<T>> absent_is(std::string word, ValueType<T> base) {
  ValueType<std::optional<T>> type;
  type.expected = base.expected + ", or " + word;
  type.words = {word};
  type.read = [word, base](const Node& node, const std::string& key) -> std::optional<std::optional<T>> {
    if (node.is_word(word)) return std::make_optional(std::optional<T>{});
    const std::optional<T> value = base.read(node, key);
    return value ? std::make_optional(value) : std::nullopt;
  };
  type.print = [word, base](const std::optional<T>& value) { return value ? base.print(*value) : word; };
  return type;
}

/// A list of such values, or one of them alone. `one_alone`: a list of one prints without brackets.
template <class T>
ValueType<std::vector<T>> list_of(ValueType<T> base, bool one_alone = false) {
  ValueType<std::vector<T>> type;
  type.expected = base.expected + ", or a list of such";
  type.words = base.words;
  type.read = [base](const Node& node, const std::string& key) -> std::optional<std::vector<T>> {
    const std::vector<Node> alone{node};
    const bool is_list = node.kind == Node::Kind::list;
    std::vector<T> values;
    for (const Node& item : is_list ? node.items : alone) {
      std::optional<T> value = base.read(item, key);
      if (!value) fail_value(item, key, is_list ? base.expected : base.expected + ", or a list of such");
      values.push_back(std::move(*value));
    }
    return values;
  };
  type.print = [base, one_alone](const std::vector<T>& values) {
    if (one_alone && values.size() == 1) return base.print(values[0]);
    std::string out;
    for (const T& value : values) out += (out.empty() ? "" : ", ") + base.print(value);
    return "[" + out + "]";
  };
  return type;
}

}  // namespace plsc
