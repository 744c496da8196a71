// Links between hosts, one pair beside another: the first ranks of both. Who is slow is found by comparison.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "app/doctor/pair_rounds.h"
#include "app/doctor/probes.h"
#include "app/quantity.h"
#include "comm/pair_probe.h"

namespace plsc::doctor {
namespace {

constexpr double kSeconds = 0.3;   // of each pair
constexpr double kSlow = 0.5;      // of the median
constexpr size_t kPairsNamed = 4;  // that are slow

struct Link {
  std::string name;  // "n3 - n9"
  double rate = 0, latency = 0;
};

/// What the leaders measured, on every rank.
std::vector<Link> gather_links(World& world, const std::vector<Link>& own) {
  nlohmann::json mine = nlohmann::json::array();
  for (const Link& l : own) mine.push_back({l.name, l.rate, l.latency});
  std::vector<Link> all;
  for (const std::string& text : gather_texts(world.host_collective(), mine.dump())) {
    for (const auto& l : nlohmann::json::parse(text)) all.push_back({l[0], l[1], l[2]});
  }
  return all;
}

void judge_links(std::vector<Link> links, bool all, RankSheet& sheet) {
  std::sort(links.begin(), links.end(), [](const Link& a, const Link& b) { return a.rate < b.rate; });
  const Link& slowest = links.front();
  const double median = links[links.size() / 2].rate;
  double latency = 0;
  for (const Link& l : links) latency = std::max(latency, l.latency);
  sheet.add({"hosts", "pairs",
             fmt::format("{} pair{} by MPI{}", links.size(), links.size() == 1 ? "" : "s",
                         all ? "" : " (neighbours alone)")});
  sheet.add({"hosts", "slowest", "slowest {} " + fmt::format("({})", slowest.name), slowest.rate, "B/s"});
  sheet.add({"hosts", "median", "median {}", median, "B/s"});
  sheet.add({"hosts", "latency", "latency up to {}", latency, "s"});
  for (size_t i = 0; i < std::min(links.size(), kPairsNamed) && links[i].rate < kSlow * median; ++i) {
    sheet.warn_of_all("hosts",
                      fmt::format("{}: {}, the median of all pairs {}", links[i].name, quantity(links[i].rate, "B/s"),
                                  quantity(median, "B/s")),
                      "a cable, a switch's port or an interface: ethtool on both");
  }
}

}  // namespace

void probe_pairs(World& world, RankSheet& sheet) {
  if (world.size() == 1) return;
  const std::vector<int64_t> nodes = gather_values(world.host_collective(), static_cast<int64_t>(world.node()));
  // A host's number is its lowest rank: World::node. In the order of these.
  std::vector<int64_t> hosts = nodes;
  std::sort(hosts.begin(), hosts.end());
  hosts.erase(std::unique(hosts.begin(), hosts.end()), hosts.end());
  const PairRounds schedule = pair_rounds(static_cast<int>(hosts.size()));
  if (schedule.rounds.empty()) return;
  const auto probe = make_pair_probe(world.wait_policy());
  std::vector<Link> own;
  for (const auto& round : schedule.rounds) {
    for (const auto& [a, b] : round) {
      const auto leader = static_cast<int>(hosts[static_cast<size_t>(a)]);
      const auto other = static_cast<int>(hosts[static_cast<size_t>(b)]);
      if (world.rank() != leader && world.rank() != other) continue;
      const bool leads = world.rank() == leader;
      const PairRate rate = probe->measure(leads ? other : leader, leads, kSeconds);
      const auto name = [&](int rank) { return world.hosts()[static_cast<size_t>(rank)]; };
      if (leads)
        own.push_back({fmt::format("{} - {}", name(leader), name(other)), rate.bytes_per_second, rate.seconds});
    }
    world.host_collective().barrier("a round of pairs of hosts");
  }
  const std::vector<Link> links = gather_links(world, own);
  if (world.rank() == 0) judge_links(links, schedule.all, sheet);
}

void probe_clocks(World& world, RankSheet& sheet) {
  constexpr double kApart = 2;  // seconds
  world.host_collective().barrier("before the clocks are read");
  const auto now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  const std::vector<double> clocks = gather_values(world.host_collective(), now);
  std::vector<double> sorted = clocks;
  std::sort(sorted.begin(), sorted.end());
  const double median = sorted[sorted.size() / 2], off = now - median;
  if (std::abs(off) > kApart) {
    sheet.warn("clock",
               fmt::format("its clock is {:.0f} s {} the others'", std::abs(off), off > 0 ? "before" : "behind"),
               "let it follow the network's time (chrony, ntpd)");
  }
  if (world.rank() == 0 && world.size() > 1)
    sheet.add({"clock", "spread", "all within {}", sorted.back() - sorted.front(), "s"});
}

}  // namespace plsc::doctor
