#include "app/quantity.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "base/clock.h"
#include "base/error.h"
#include "config/value_types.h"

namespace plsc {
namespace {

/// 1234 -> "1.23 k": three digits and a prefix, in steps of 1000.
std::string decimal(double number) {
  constexpr std::array<const char*, 6> kPrefixes{"", "k", "M", "G", "T", "P"};
  size_t step = 0;
  for (; std::abs(number) >= 999.5 && step + 1 < kPrefixes.size(); ++step) number /= 1000;
  return fmt::format("{:.3g} {}", number, kPrefixes[step]);
}

/// "12,345,678"
std::string grouped(double number) {
  std::string digits = fmt::format("{:.0f}", number);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > (number < 0 ? 1 : 0); at -= 3)
    digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

std::string seconds_text(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.3g} us", seconds * 1e6);
  return seconds < 1 ? fmt::format("{:.3g} ms", seconds * 1e3) : fmt::format("{:.3g} s", seconds);
}

template <class T>
T read_option(const std::string& option, const std::string& text, const ValueType<T>& type,
              const std::string& expected) {
  Node node;
  node.kind = Node::Kind::scalar;
  node.text = text;
  const std::optional<T> value = type.read(node, option);
  if (!value) fail("{}: found {}, expected {}", option, node.describe(), expected);
  return *value;
}

}  // namespace

std::string quantity(double number, const std::string& unit) {
  if (unit == "B") return human_bytes(number);
  if (unit == "B/s" || unit == "FLOP/s") return decimal(number) + unit;
  if (unit == "s") return seconds_text(number);
  if (unit.empty()) return number == std::round(number) ? grouped(number) : fmt::format("{:.4g}", number);
  return fmt::format("{:.0f} {}", number, unit);
}

int64_t memory_option(const std::string& option, const std::string& text) {
  constexpr const char* kExpected = "a size such as 80GiB";
  const int64_t found = read_option(option, text, bytes(), kExpected);
  const bool has_unit = text.find_first_of("BKMGT") != std::string::npos;
  if (!has_unit && found < 1 << 20) fail("{}: found '{}', expected {}", option, text, kExpected);
  return found;
}

double positive_option(const std::string& option, const std::string& text) {
  const ValueType<double> type = number(above(0));
  return read_option(option, text, type, type.expected);
}

int64_t whole_option(const std::string& option, const std::string& text, int64_t most) {
  const ValueType<int64_t> type = whole(1, most);
  return read_option(option, text, type, type.expected);
}

}  // namespace plsc
