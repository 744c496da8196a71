// The odd one out. Facts of one host's ranks are taken together: a host is odd when any of its ranks is.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "app/doctor/report.h"
#include "app/quantity.h"

namespace plsc::doctor {
namespace {

constexpr double kNear = 0.05;     // of the median
constexpr double kSlowRate = 0.5;  // of the median
constexpr size_t kHostsNamed = 4;  // in one finding

struct Sample {
  const RankSheet* sheet;
  const Fact* fact;
};
using Samples = std::vector<Sample>;

/// Every digit where facts must be the same, so that two that differ never look alike.
std::string text_of(const Fact& fact) {
  if (!fact.number) return fact.text;
  if (fact.agreement != Agreement::same) return quantity(*fact.number, fact.unit);
  return fmt::format("{}{}{}", *fact.number, fact.unit.empty() ? "" : " ", fact.unit);
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// "host n13" or "hosts n13, n14"; the ranks where all samples are of one host.
std::string where_of(const Samples& odd, const Samples& all) {
  const auto one_host = [&] {
    return std::all_of(all.begin(), all.end(), [&](const Sample& s) { return s.sheet->node == all[0].sheet->node; });
  };
  std::vector<std::string> names;
  const bool by_rank = one_host();
  for (const Sample& s : odd) {
    std::string name = by_rank ? std::to_string(s.sheet->rank) : s.sheet->host;
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
  }
  const size_t count = names.size();
  if (count > kHostsNamed) names.resize(kHostsNamed);
  return fmt::format("{}{} {}{}", by_rank ? "rank" : "host", count > 1 ? "s" : "", fmt::join(names, ", "),
                     count > kHostsNamed ? fmt::format(" and {} more", count - kHostsNamed) : "");
}

Told told(const Fact& fact, const std::string& where, const std::string& text) {
  return {{fact.odd, fact.section, fmt::format("{} {}", fact.name, text), ""}, where};
}

void compare_texts(const Samples& samples, std::vector<Told>& out) {
  std::map<std::string, Samples> groups;
  for (const Sample& s : samples) groups[text_of(*s.fact)].push_back(s);
  if (groups.size() < 2) return;
  const auto largest = std::max_element(groups.begin(), groups.end(),
                                        [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  const bool majority = 2 * largest->second.size() > samples.size();
  for (const auto& [text, group] : groups) {
    if (majority && text == largest->first) continue;
    out.push_back(told(*group[0].fact, where_of(group, samples),
                       majority ? fmt::format("{}, the others {}", text, largest->first)
                                : fmt::format("{}, where they should be one", text)));
  }
}

/// Two have no median. Numbers that should be near each other are told as they are; of two rates nobody knows which
/// one is the odd one, and they vary.
void compare_two(const Samples& samples, std::vector<Told>& out) {
  const auto [low, high] = std::minmax(*samples[0].fact->number, *samples[1].fact->number);
  if (samples[0].fact->agreement == Agreement::rate || high - low <= kNear * std::abs(high)) return;
  for (const Sample& s : samples)
    out.push_back(told(*s.fact, where_of({s}, samples), text_of(*s.fact) + ", where they should be alike"));
}

void compare_numbers(const Samples& all, std::vector<Told>& out) {
  Samples samples;
  std::vector<double> values;
  for (const Sample& s : all) {
    if (!s.fact->number) continue;
    samples.push_back(s);
    values.push_back(*s.fact->number);
  }
  if (values.size() == 2) return compare_two(samples, out);
  if (values.size() < 2) return;
  const double middle = median(values);
  std::map<int, Samples> odd;  // by host
  for (const Sample& s : samples) {
    const double value = *s.fact->number;
    const bool is_odd = s.fact->agreement == Agreement::rate ? value < kSlowRate * middle
                                                             : std::abs(value - middle) > kNear * std::abs(middle);
    if (is_odd) odd[s.sheet->node].push_back(s);
  }
  for (const auto& [node, group] : odd) {
    out.push_back(
        told(*group[0].fact, where_of(group, samples),
             fmt::format("{}, the median {}", text_of(*group[0].fact), quantity(middle, group[0].fact->unit))));
  }
}

}  // namespace

std::vector<Told> odd_ones(const std::vector<RankSheet>& sheets) {
  std::map<std::pair<std::string, std::string>, Samples> facts;
  std::vector<std::pair<std::string, std::string>> order;
  for (const RankSheet& sheet : sheets) {
    for (const Fact& fact : sheet.facts) {
      Samples& samples = facts[{fact.section, fact.name}];
      if (samples.empty()) order.emplace_back(fact.section, fact.name);
      samples.push_back({&sheet, &fact});
    }
  }
  std::vector<Told> out;
  for (const auto& key : order) {
    const Samples& samples = facts[key];
    const Agreement agreement = samples[0].fact->agreement;
    if (agreement == Agreement::same) compare_texts(samples, out);
    if (agreement == Agreement::near || agreement == Agreement::rate) compare_numbers(samples, out);
  }
  return out;
}

}  // namespace plsc::doctor
