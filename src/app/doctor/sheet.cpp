#include "app/doctor/sheet.h"

#include <cmath>
#include <nlohmann/json.hpp>

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

const char* grade_name(Grade grade) { return grade == Grade::ok ? "ok" : grade == Grade::warn ? "warn" : "fail"; }

}  // namespace plsc::doctor
