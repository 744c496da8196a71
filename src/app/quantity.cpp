#include "app/quantity.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "base/clock.h"

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

}  // namespace

std::string quantity(double number, const std::string& unit) {
  if (unit == "B") return human_bytes(number);
  if (unit == "B/s" || unit == "FLOP/s") return decimal(number) + unit;
  if (unit == "s") return seconds_text(number);
  if (unit.empty()) return number == std::round(number) ? grouped(number) : fmt::format("{:.4g}", number);
  return fmt::format("{:.0f} {}", number, unit);
}

}  // namespace plsc
