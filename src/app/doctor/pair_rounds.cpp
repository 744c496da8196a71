#include "app/doctor/pair_rounds.h"

#include <algorithm>

namespace plsc::doctor {
namespace {

constexpr int kAllPairs = 12;  // hosts

/// A tournament: one host keeps its seat, the others move on by one after each round.
void add_tournament(int hosts, PairRounds& out) {
  const int seats = hosts + hosts % 2;  // the last one stays empty where hosts are odd in number
  for (int round = 0; round + 1 < seats; ++round) {
    auto& pairs = out.rounds.emplace_back();
    const auto at = [&](int seat) { return seat == 0 ? 0 : 1 + (seat - 1 + round) % (seats - 1); };
    for (int seat = 0; seat < seats / 2; ++seat) {
      const int a = at(seat), b = at(seats - 1 - seat);
      if (std::max(a, b) < hosts) pairs.emplace_back(std::min(a, b), std::max(a, b));
    }
  }
}

/// Pairs at one distance around the ring: greedily into rounds, each host once a round.
void add_distance(int hosts, int distance, PairRounds& out) {
  std::vector<std::pair<int, int>> waiting;
  for (int host = 0; host < hosts; ++host) waiting.emplace_back(host, (host + distance) % hosts);
  while (!waiting.empty()) {
    auto& pairs = out.rounds.emplace_back();
    std::vector<bool> busy(static_cast<size_t>(hosts));
    std::vector<std::pair<int, int>> later;
    for (const auto& [a, b] : waiting) {
      if (busy[static_cast<size_t>(a)] || busy[static_cast<size_t>(b)]) {
        later.emplace_back(a, b);
        continue;
      }
      busy[static_cast<size_t>(a)] = busy[static_cast<size_t>(b)] = true;
      pairs.emplace_back(a, b);
    }
    waiting = std::move(later);
  }
}

}  // namespace

PairRounds pair_rounds(int hosts) {
  PairRounds out;
  if (hosts < 2) return out;
  if (hosts <= kAllPairs) {
    add_tournament(hosts, out);
    return out;
  }
  out.all = false;
  for (int distance = 1; distance <= hosts / 2; distance *= 2) {
    // Half way around the ring each pair would come twice.
    if (2 * distance == hosts) break;
    add_distance(hosts, distance, out);
  }
  return out;
}

}  // namespace plsc::doctor
