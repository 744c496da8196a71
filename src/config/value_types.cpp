// The scalar kinds. What a value is follows from the key that it belongs to and not from how it looks, so `output: 12`
// is a path and `seed: 1e3` is one thousand.
#include "config/value_types.h"

#include <charconv>
#include <cmath>

#include "base/error.h"
#include "config/nearest.h"

namespace plsc {
namespace {

/// A number as people write them: 12, 1e-3, .5, +4, 1_000_000.
std::optional<double> to_double(const Node& node) {
  if (node.kind != Node::Kind::scalar || node.quoted) return std::nullopt;
  std::string digits;
  for (const char c : node.text)
    if (c != '_') digits += c;
  const char* begin = digits.data() + (digits.size() > 1 && digits[0] == '+' && digits[1] != '-' ? 1 : 0);
  const char* end = digits.data() + digits.size();
  double value = 0;
  const auto [stop, error] = std::from_chars(begin, end, value);
  if (error != std::errc{} || stop != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

/// Exact for all 64 bits; 1e6 is whole as well.
template <class T>
std::optional<T> to_whole(const Node& node) {
  if (node.kind != Node::Kind::scalar || node.quoted) return std::nullopt;
  std::string digits;
  for (const char c : node.text)
    if (c != '_') digits += c;
  T value = 0;
  const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc{} && stop == digits.data() + digits.size()) return value;
  const std::optional<double> real = to_double(node);
  // 2^53: beyond it a double no longer stands for one whole number.
  if (!real || *real != std::floor(*real) || std::abs(*real) > 9007199254740992.0) return std::nullopt;
  if (*real < 0 && std::numeric_limits<T>::min() == 0) return std::nullopt;
  return static_cast<T>(*real);
}

struct Unit {
  std::string_view name;
  double factor;
};

/// A number with one of the units behind it, or alone: in units of 1.
std::optional<double> with_unit(const Node& node, std::initializer_list<Unit> units) {
  if (node.kind != Node::Kind::scalar) return std::nullopt;
  const size_t letters = node.text.find_first_not_of("0123456789.+-_ ");
  Node amount = node;
  double factor = 1;
  if (letters != std::string::npos) {
    const std::string unit = node.text.substr(letters);
    const Unit* found = nullptr;
    for (const Unit& u : units)
      if (u.name == unit) found = &u;
    if (found == nullptr) return std::nullopt;
    factor = found->factor;
    amount.text = node.text.substr(0, letters);
  }
  while (!amount.text.empty() && amount.text.back() == ' ') amount.text.pop_back();
  const std::optional<double> value = to_double(amount);
  if (!value) return std::nullopt;
  return *value * factor;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (size_t i = 0; i < words.size(); ++i) out += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
  return out;
}

constexpr double kGiB = 1024.0 * 1024 * 1024;

}  // namespace

void fail_value(const Node& node, const std::string& key, const std::string& expected, const std::string& suffix) {
  fail("{}: {}: found {}, expected {}{}", node.origin, key, node.describe(), expected, suffix);
}

std::string near_word(const Node& node, const std::vector<std::string>& words) {
  return node.kind == Node::Kind::scalar ? did_you_mean(node.text, words) : "";
}

bool Range::contains(double x) const { return (low_open ? x > low : x >= low) && (high_open ? x < high : x <= high); }

std::string Range::text() const {
  const bool below = std::isfinite(low), over = std::isfinite(high);
  if (below && over) return fmt::format(" in {}{}, {}{}", low_open ? '(' : '[', low, high, high_open ? ')' : ']');
  if (below) return fmt::format(" {} {}", low_open ? ">" : ">=", low);
  return over ? fmt::format(" {} {}", high_open ? "<" : "<=", high) : "";
}

ValueType<int64_t> whole(int64_t low, int64_t high) {
  ValueType<int64_t> type;
  type.expected = high < int64_t{1} << 48 ? fmt::format("a whole number from {} to {}", low, high)
                                          : fmt::format("a whole number >= {}", low);
  type.read = [low, high](const Node& node, const std::string&) -> std::optional<int64_t> {
    const std::optional<int64_t> value = to_whole<int64_t>(node);
    return value && *value >= low && *value <= high ? value : std::nullopt;
  };
  type.print = [](const int64_t& value) { return fmt::format("{}", value); };
  return type;
}

ValueType<uint64_t> whole_64_bits() {
  ValueType<uint64_t> type;
  type.expected = "a whole number >= 0";
  type.read = [](const Node& node, const std::string&) { return to_whole<uint64_t>(node); };
  type.print = [](const uint64_t& value) { return fmt::format("{}", value); };
  return type;
}

ValueType<double> number(Range range) {
  ValueType<double> type;
  type.expected = "a number" + range.text();
  type.read = [range](const Node& node, const std::string&) -> std::optional<double> {
    const std::optional<double> value = to_double(node);
    return value && range.contains(*value) ? value : std::nullopt;
  };
  // The shortest text that reads back to the same double.
  type.print = [](const double& value) { return fmt::format("{}", value); };
  return type;
}

ValueType<bool> boolean() {
  ValueType<bool> type;
  type.expected = "true or false";
  type.words = {"true", "false"};
  type.read = [](const Node& node, const std::string&) -> std::optional<bool> {
    for (const char* word : {"true", "True", "TRUE", "yes", "on"})
      if (node.is_word(word)) return true;
    for (const char* word : {"false", "False", "FALSE", "no", "off"})
      if (node.is_word(word)) return false;
    return std::nullopt;
  };
  type.print = [](const bool& value) { return std::string(value ? "true" : "false"); };
  return type;
}

ValueType<SyncBatchNorm> sync_batch_norm() {
  ValueType<SyncBatchNorm> type;
  type.expected = "true, false or a whole number of ranks >= 2";
  type.words = {"true", "false"};
  type.read = [](const Node& node, const std::string& key) -> std::optional<SyncBatchNorm> {
    if (const std::optional<bool> on = boolean().read(node, key)) return SyncBatchNorm{*on};
    // Two ranks or more: one is no group.
    const std::optional<int64_t> group = whole(2, 1 << 20).read(node, key);
    if (!group) return std::nullopt;
    return SyncBatchNorm{true, *group};
  };
  type.print = [](const SyncBatchNorm& value) {
    return value.group > 0 ? std::to_string(value.group) : std::string(value.on ? "true" : "false");
  };
  return type;
}

ValueType<std::string> text() {
  ValueType<std::string> type;
  type.expected = "a text";
  type.read = [](const Node& node, const std::string&) -> std::optional<std::string> {
    if (node.kind != Node::Kind::scalar || node.text.empty()) return std::nullopt;
    return node.text;
  };
  type.print = [](const std::string& value) { return yaml_scalar(value); };
  return type;
}

ValueType<std::string> text_or_none() {
  ValueType<std::string> type;
  type.expected = "a text, or none";
  type.read = [](const Node& node, const std::string&) -> std::optional<std::string> {
    if (node.is_word("none")) return "";
    if (node.kind != Node::Kind::scalar) return std::nullopt;
    return node.text;
  };
  type.print = [](const std::string& value) { return value.empty() ? "none" : yaml_scalar(value); };
  return type;
}

ValueType<std::string> one_of(std::vector<std::string> words) {
  ValueType<std::string> type;
  type.expected = joined(words);
  type.words = words;
  type.read = [words](const Node& node, const std::string&) -> std::optional<std::string> {
    for (const std::string& word : words)
      if (node.kind == Node::Kind::scalar && node.text == word) return word;
    return std::nullopt;
  };
  type.print = [](const std::string& value) { return value; };
  return type;
}

ValueType<int64_t> bytes() {
  ValueType<int64_t> type;
  type.expected = "a size such as 8GiB or 500MB";
  type.read = [](const Node& node, const std::string&) -> std::optional<int64_t> {
    const std::optional<double> value = with_unit(node, {{"B", 1},
                                                         {"KB", 1e3},
                                                         {"MB", 1e6},
                                                         {"GB", 1e9},
                                                         {"TB", 1e12},
                                                         {"KiB", 1024},
                                                         {"MiB", kGiB / 1024},
                                                         {"GiB", kGiB},
                                                         {"TiB", kGiB * 1024},
                                                         {"K", 1024},
                                                         {"M", kGiB / 1024},
                                                         {"G", kGiB},
                                                         {"T", kGiB * 1024}});
    if (!value || *value < 1 || *value > 1e18) return std::nullopt;
    return static_cast<int64_t>(*value);
  };
  type.print = [](const int64_t& value) {
    for (const auto& [unit, factor] : {std::pair("GiB", int64_t{1} << 30), std::pair("MiB", int64_t{1} << 20)})
      if (value != 0 && value % factor == 0) return fmt::format("{}{}", value / factor, unit);
    return fmt::format("{}", value);
  };
  return type;
}

ValueType<double> seconds() {
  ValueType<double> type;
  type.expected = "a time > 0 such as 10min or 90s";
  type.read = [](const Node& node, const std::string&) -> std::optional<double> {
    const std::optional<double> value =
        with_unit(node, {{"ms", 1e-3}, {"s", 1}, {"sec", 1}, {"min", 60}, {"m", 60}, {"h", 3600}, {"d", 86400}});
    return value && *value > 0 ? value : std::nullopt;
  };
  type.print = [](const double& value) {
    const bool minutes = value >= 60 && std::fmod(value, 60) == 0;
    return minutes ? fmt::format("{}min", value / 60) : fmt::format("{}s", value);
  };
  return type;
}

}  // namespace plsc
