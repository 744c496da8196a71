// From sheets to lines: each section's facts in one text, its findings, the worst grade.
#include "app/doctor/report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "app/quantity.h"
#include "app/version.h"

namespace plsc::doctor {
namespace {

/// Of the sheet; others come after them.
constexpr std::array<const char*, 16> kSections{"program",   "ranks",   "cpu",        "memory",     "limits", "gpus",
                                                "libraries", "devices", "rates",      "all-reduce", "hosts",  "network",
                                                "clock",     "data",    "evaluation", "memory fit"};
constexpr size_t kListed = 8;  // ranks of which a listed fact is shown

/// One fact as all ranks have it: (rank, fact).
using Shared = std::vector<std::pair<int, const Fact*>>;

/// "12.1 to 12.4 GB/s" of two quantities; one of them where they read alike.
std::string range_text(const std::string& least, const std::string& most) {
  if (least == most) return least;
  const size_t unit = least.find(' ');
  const bool same_unit = unit != std::string::npos && unit == least.rfind(' ') && most.ends_with(least.substr(unit));
  return (same_unit ? least.substr(0, unit) : least) + " to " + most;
}

/// The number, or the range of all ranks' numbers, in place of {}.
std::string number_text(const Shared& shared) {
  double low = *shared[0].second->number, high = low;
  for (const auto& [rank, fact] : shared) {
    if (!fact->number) continue;
    low = std::min(low, *fact->number);
    high = std::max(high, *fact->number);
  }
  const Fact& first = *shared[0].second;
  const std::string least = quantity(low, first.unit), most = quantity(high, first.unit);
  std::string text = first.text.empty() ? first.name + " {}" : first.text;
  const size_t at = text.find("{}");
  if (at != std::string::npos) text.replace(at, 2, range_text(least, most));
  return text;
}

/// "rank 0: GPU 0, rank 1: GPU 1"
std::string listed_text(const Shared& shared) {
  std::vector<std::string> parts;
  for (const auto& [rank, fact] : shared) {
    if (parts.size() == kListed) break;
    parts.push_back(fmt::format("rank {}: {}", rank, fact->text));
  }
  const size_t more = shared.size() - parts.size();
  return fmt::format("{}{}", fmt::join(parts, ", "), more > 0 ? fmt::format(", and {} more", more) : "");
}

std::string majority_text(const Shared& shared) {
  if (shared[0].second->agreement != Agreement::same) return shared[0].second->text;
  std::map<std::string, int> votes;
  for (const auto& [rank, fact] : shared) ++votes[fact->text];
  return std::max_element(votes.begin(), votes.end(), [](auto& a, auto& b) { return a.second < b.second; })->first;
}

std::string text_of(const Shared& shared) {
  if (shared[0].second->agreement == Agreement::listed && shared.size() > 1) return listed_text(shared);
  return shared[0].second->number ? number_text(shared) : majority_text(shared);
}

std::string where_of(const std::vector<const RankSheet*>& owners, size_t ranks, const std::set<std::string>& hosts) {
  if (owners.size() == ranks) return "";
  std::set<std::string> own_hosts;
  for (const RankSheet* sheet : owners) own_hosts.insert(sheet->host);
  // A fact of a host is found by its first rank alone.
  if (hosts.size() > 1)
    return own_hosts == hosts ? ""
                              : fmt::format("host{} {}", own_hosts.size() > 1 ? "s" : "", fmt::join(own_hosts, ", "));
  std::vector<int> numbers;
  for (const RankSheet* sheet : owners) numbers.push_back(sheet->rank);
  return numbers == std::vector<int>{0}
             ? ""
             : fmt::format("rank{} {}", numbers.size() > 1 ? "s" : "", fmt::join(numbers, ", "));
}

/// Findings of the sheets, each once with those who have it.
std::vector<Told> collect_findings(const std::vector<RankSheet>& sheets, const std::set<std::string>& hosts) {
  std::vector<std::pair<Finding, std::vector<const RankSheet*>>> found;
  for (const RankSheet& sheet : sheets) {
    for (const Finding& f : sheet.findings) {
      const auto same = [&](const auto& other) {
        return other.first.section == f.section && other.first.text == f.text;
      };
      auto at = std::find_if(found.begin(), found.end(), same);
      if (at == found.end()) at = found.insert(found.end(), {f, {}});
      at->second.push_back(&sheet);
    }
  }
  std::vector<Told> told;
  for (const auto& [finding, owners] : found)
    told.push_back({finding, finding.of_all ? "" : where_of(owners, sheets.size(), hosts)});
  return told;
}

/// `text` in lines of at most `width`, cut at blanks; the later ones begin with `indent` blanks.
std::string wrapped(const std::string& text, size_t indent, size_t width) {
  std::string out, line;
  size_t at = 0;
  const size_t room = width > indent + 20 ? width - indent : 20;
  while (at < text.size()) {
    const size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (!line.empty() && line.size() + 1 + word.size() > room) {
      out += line + "\n" + std::string(indent, ' ');
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
    at = end + 1;
  }
  return out + line;
}

class Printer {
 public:
  Printer(const Report& report, const PrintOptions& options) : report_(report), options_(options) {}

  std::string print() {
    out_ = fmt::format("plsc-train doctor: {} rank{} on {} host{}, {:.1f} s\n", report_.ranks,
                       report_.ranks == 1 ? "" : "s", report_.hosts.size(), report_.hosts.size() == 1 ? "" : "s",
                       options_.seconds);
    for (const Line& line : report_.lines) {
      print_line(line);
      for (const Told& told : report_.told) {
        if (told.finding.section == line.section) print_told(told);
      }
    }
    if (hidden_ > 0) out_ += fmt::format("      ... and {} more findings: --json has all\n", hidden_);
    return out_ + verdict();
  }

 private:
  static constexpr size_t kLabel = 5, kText = 17;  // columns where they begin

  std::string coloured(Grade grade, const std::string& text) const {
    if (!options_.colours) return text;
    return (grade == Grade::ok ? "\033[32m" : grade == Grade::warn ? "\033[33m" : "\033[31;1m") + text + "\033[0m";
  }
  static const char* word(Grade grade) { return grade == Grade::ok ? "ok  " : grade == Grade::warn ? "warn" : "FAIL"; }
  size_t width() const { return static_cast<size_t>(options_.columns); }

  void print_line(const Line& line) {
    out_ += coloured(line.grade, word(line.grade)) + " " + fmt::format("{:<{}}", line.section, kText - kLabel) +
            wrapped(line.text, kText, width()) + "\n";
  }
  void print_told(const Told& told) {
    if (printed_++ >= options_.findings) {
      ++hidden_;
      return;
    }
    const std::string who = told.where.empty() ? "" : told.where + ": ";
    std::string text = who + told.finding.text;
    for (char& c : text) c = c == '\n' ? ' ' : c;
    out_ += "       - " + coloured(told.finding.grade, wrapped(text, kLabel + 4, width())) + "\n";
    if (!told.finding.hint.empty()) out_ += "         " + wrapped(told.finding.hint, kLabel + 4, width()) + "\n";
  }
  std::string verdict() const {
    const auto count = [&](Grade grade) {
      return std::count_if(report_.told.begin(), report_.told.end(),
                           [&](const Told& t) { return t.finding.grade == grade; });
    };
    const auto failures = count(Grade::fail), warnings = count(Grade::warn);
    const auto many = [](auto n, const char* what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); };
    std::string text = failures > 0 ? "training could NOT run: " + many(failures, "failure") : "training could run";
    if (warnings > 0) text += ", " + many(warnings, "warning");
    return coloured(report_.verdict, "verdict: " + text) + "\n";
  }

  const Report& report_;
  const PrintOptions& options_;
  std::string out_;
  int printed_ = 0, hidden_ = 0;
};

}  // namespace

Report make_report(const std::vector<RankSheet>& sheets) {
  Report report;
  report.ranks = static_cast<int>(sheets.size());
  std::set<std::string> hosts;
  std::vector<std::pair<std::string, std::string>> order;
  std::map<std::pair<std::string, std::string>, Shared> facts;
  std::vector<std::string> sections;
  const auto see = [&](const std::string& section) {
    if (std::find(sections.begin(), sections.end(), section) == sections.end()) sections.push_back(section);
  };
  for (const RankSheet& sheet : sheets) {
    if (hosts.insert(sheet.host).second) report.hosts.push_back(sheet.host);
    for (const Fact& fact : sheet.facts) {
      see(fact.section);
      Shared& shared = facts[{fact.section, fact.name}];
      if (shared.empty()) order.emplace_back(fact.section, fact.name);
      shared.emplace_back(sheet.rank, &fact);
    }
  }
  report.told = collect_findings(sheets, hosts);
  for (Told& odd : odd_ones(sheets)) report.told.push_back(std::move(odd));
  std::stable_sort(report.told.begin(), report.told.end(),
                   [](const Told& a, const Told& b) { return a.finding.grade > b.finding.grade; });
  for (const Told& told : report.told) see(told.finding.section);
  const auto place = [](const std::string& section) {
    return std::find(kSections.begin(), kSections.end(), section) - kSections.begin();
  };
  std::stable_sort(sections.begin(), sections.end(), [&](auto& a, auto& b) { return place(a) < place(b); });
  for (const std::string& section : sections) {
    Line line{section, Grade::ok, ""};
    for (const auto& key : order) {
      const Shared& shared = facts[key];
      if (key.first != section || !shared[0].second->shown) continue;
      const std::string text = text_of(shared);
      if (!text.empty()) line.text += (line.text.empty() ? "" : ", ") + text;
    }
    for (const Told& told : report.told) {
      if (told.finding.section == section) line.grade = std::max(line.grade, told.finding.grade);
    }
    report.verdict = std::max(report.verdict, line.grade);
    report.lines.push_back(std::move(line));
  }
  return report;
}

std::string print_report(const Report& report, const PrintOptions& options) { return Printer(report, options).print(); }

std::string error_json(const std::string& section, const std::string& what) {
  using Json = nlohmann::ordered_json;
  RankSheet sheet;
  sheet.fail_with(section, what);
  const Finding& f = sheet.findings[0];
  const Json finding{
      {"grade", grade_name(f.grade)}, {"section", f.section}, {"where", ""}, {"text", f.text}, {"hint", f.hint}};
  const Json whole{{"program", std::string("plsc-train ") + kVersion},
                   {"verdict", grade_name(f.grade)},
                   {"exit_status", exit_status(f.grade)},
                   {"findings", Json::array({finding})}};
  return whole.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string report_json(const Report& report, const std::vector<RankSheet>& sheets, double seconds) {
  using Json = nlohmann::ordered_json;
  Json lines = Json::array(), findings = Json::array(), facts = Json::array();
  for (const Line& l : report.lines)
    lines.push_back({{"section", l.section}, {"grade", grade_name(l.grade)}, {"text", l.text}});
  for (const Told& t : report.told) {
    findings.push_back({{"grade", grade_name(t.finding.grade)},
                        {"section", t.finding.section},
                        {"where", t.where},
                        {"text", t.finding.text},
                        {"hint", t.finding.hint}});
  }
  for (const RankSheet& sheet : sheets) {
    for (const Fact& f : sheet.facts) {
      Json fact{{"rank", sheet.rank}, {"host", sheet.host}, {"section", f.section}, {"name", f.name}};
      if (f.number) {
        fact["number"] = *f.number;
        fact["unit"] = f.unit;
      } else {
        fact["text"] = f.text;
      }
      facts.push_back(std::move(fact));
    }
  }
  const Json whole{{"program", std::string("plsc-train ") + kVersion},
                   {"verdict", grade_name(report.verdict)},
                   {"exit_status", exit_status(report.verdict)},
                   {"ranks", report.ranks},
                   {"hosts", report.hosts},
                   {"seconds", seconds},
                   {"lines", lines},
                   {"findings", findings},
                   {"facts", facts}};
  return whole.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace plsc::doctor
