// Rows of the monitor's table and what they mean.
#include "comm/rank_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/clock.h"

namespace plsc {
namespace {

constexpr double kSilent = 5;    // seconds without a heartbeat, which comes every second
constexpr size_t kMaxNamed = 4;  // ranks that one sentence names

bool same(const RankState& a, const RankState& b) {
  return a.step == b.step && a.position == b.position && a.phase == b.phase;
}

}  // namespace

std::string last_seen(const std::string& place) { return place.empty() ? "" : " (last seen in " + place + ")"; }

void RankTable::hello(int rank, const MonitorMessage& message, double now) {
  Row& r = row(rank);
  r.known = true;
  r.pid = message.pid;
  r.host = get_text(message.host);
  r.state = message.state;
  r.heard = r.moved = now;
}

void RankTable::update(int rank, const RankState& state, double now) {
  Row& r = row(rank);
  if (!same(r.state, state)) r.moved = now;
  r.state = state;
  r.heard = now;
}

int RankTable::lowest_alive(int but) const {
  for (int rank = 0; rank < static_cast<int>(rows_.size()); ++rank) {
    if (rank != but && row(rank).known && !row(rank).gone) return rank;
  }
  return -1;
}

std::string RankTable::who(int rank) const {
  const Row& r = row(rank);
  return r.known ? fmt::format("rank {} (host {}, pid {})", rank, r.host, r.pid) : fmt::format("rank {}", rank);
}

std::string RankTable::where(int rank) const {
  const RankState& s = row(rank).state;
  std::string text = s.step >= 0 ? fmt::format("step {}", s.step) : "";
  const std::string phase = get_text(s.phase);
  if (!phase.empty()) text += (text.empty() ? "phase " : ", phase ") + phase;
  return text;
}

std::string RankTable::line(int rank, double now) const {
  const Row& r = row(rank);
  if (!r.known) return who(rank) + " never reached the monitor";
  std::string text = who(rank);
  if (const std::string place = where(rank); !place.empty()) text += ": " + place;
  const std::string duration = human_duration(now - r.moved);
  if (r.gone) {
    text += ", has ended";
  } else if (r.state.position % 2 == 1) {
    text += fmt::format(", for {} in the wait for {}", duration, get_text(r.state.waiting));
  } else {
    text += fmt::format(", has not come to the collective for {}", duration);
  }
  if (now - r.heard > kSilent && !r.gone) {
    text += fmt::format(" (no heartbeat for {}: its process is stopped or its machine cannot be reached)",
                        human_duration(now - r.heard));
  }
  return text;
}

std::string RankTable::missing(double now) const {
  int64_t lowest = std::numeric_limits<int64_t>::max(), highest = -1;
  for (const Row& r : rows_) {
    const int64_t position = r.known ? r.state.position : -1;
    lowest = std::min(lowest, position);
    highest = std::max(highest, position);
  }
  std::vector<int> behind;
  for (int rank = 0; rank < static_cast<int>(rows_.size()); ++rank) {
    if ((row(rank).known ? row(rank).state.position : -1) == lowest) behind.push_back(rank);
  }
  const bool nobody = lowest == highest && lowest % 2 == 1;
  std::string text = nobody ? "No rank is behind: all of them wait, so messages are lost or late. " : "Missing: ";
  for (size_t i = 0; i < std::min(behind.size(), kMaxNamed); ++i) text += (i ? "; " : "") + line(behind[i], now);
  if (behind.size() > kMaxNamed) text += fmt::format("; and {} more", behind.size() - kMaxNamed);
  return text;
}

}  // namespace plsc
