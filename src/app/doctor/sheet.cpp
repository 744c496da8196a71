#include "app/doctor/sheet.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/clock.h"

namespace plsc::doctor {
namespace {

using Json = nlohmann::json;

Json fact_json(const Fact& f) {
  Json j{{"section", f.section}, {"name", f.name},           {"text", f.text},  {"unit", f.unit},
         {"odd", f.odd},         {"agreement", f.agreement}, {"shown", f.shown}};
  if (f.number && std::isfinite(*f.number)) j["number"] = *f.number;
  return j;
}

Fact fact_from(const Json& j) {
  Fact f;
  f.section = j.at("section");
  f.name = j.at("name");
  f.text = j.at("text");
  f.unit = j.at("unit");
  f.odd = j.at("odd");
  f.agreement = j.at("agreement");
  f.shown = j.at("shown");
  if (j.contains("number")) f.number = j["number"].get<double>();
  return f;
}

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

void RankSheet::fail_with(const std::string& section, const std::string& what) {
  constexpr const char* kHint = "\n  hint: ";
  const size_t at = what.find(kHint);
  if (at == std::string::npos) return fail(section, what);
  fail(section, what.substr(0, at), what.substr(at + std::string(kHint).size()));
}

std::string to_json(const RankSheet& sheet) {
  Json facts = Json::array(), findings = Json::array();
  for (const Fact& f : sheet.facts) facts.push_back(fact_json(f));
  for (const Finding& f : sheet.findings)
    findings.push_back(
        {{"grade", f.grade}, {"section", f.section}, {"text", f.text}, {"hint", f.hint}, {"of_all", f.of_all}});
  const Json j{
      {"rank", sheet.rank}, {"node", sheet.node}, {"host", sheet.host}, {"facts", facts}, {"findings", findings}};
  // What the system says (names of files, processes) need not be UTF-8.
  return j.dump(-1, ' ', false, Json::error_handler_t::replace);
}

RankSheet sheet_from_json(const std::string& text) {
  const Json j = Json::parse(text);
  RankSheet sheet;
  sheet.rank = j.at("rank");
  sheet.node = j.at("node");
  sheet.host = j.at("host");
  for (const Json& f : j.at("facts")) sheet.facts.push_back(fact_from(f));
  for (const Json& f : j.at("findings"))
    sheet.findings.push_back({f.at("grade"), f.at("section"), f.at("text"), f.at("hint"), f.at("of_all")});
  return sheet;
}

std::string quantity(double number, const std::string& unit) {
  if (unit == "B") return human_bytes(number);
  if (unit == "B/s" || unit == "FLOP/s") return decimal(number) + unit;
  if (unit == "s") return seconds_text(number);
  if (unit.empty()) return number == std::round(number) ? grouped(number) : fmt::format("{:.4g}", number);
  return fmt::format("{:.0f} {}", number, unit);
}

const char* grade_name(Grade grade) { return grade == Grade::ok ? "ok" : grade == Grade::warn ? "warn" : "fail"; }

}  // namespace plsc::doctor
