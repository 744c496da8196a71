// The monitor's table: how far every rank is, and the sentences that are made of it. No sockets, no threads, no clock:
// the time is an argument.
#pragma once
#include <string>
#include <vector>

#include "comm/monitor_protocol.h"

namespace plsc {

/// " (last seen in step 17, phase backward)"; empty for an empty place.
std::string last_seen(const std::string& place);

class RankTable {
 public:
  explicit RankTable(int ranks) : rows_(static_cast<size_t>(ranks)) {}

  void hello(int rank, const MonitorMessage& message, double now);
  void update(int rank, const RankState& state, double now);
  void mark_gone(int rank) { row(rank).gone = true; }
  /// The lowest rank that is there and is not `but`; -1 when there is none.
  int lowest_alive(int but) const;

  /// "rank 2 (host a, pid 71)"
  std::string who(int rank) const;
  /// "step 17, phase backward"; empty where it never said.
  std::string where(int rank) const;
  const RankState& state(int rank) const { return rows_[static_cast<size_t>(rank)].state; }
  /// Who is missing, for a rank that has waited in vain: those that are furthest behind, each with where it is and how
  /// long it has been there.
  std::string missing(double now) const;

 private:
  struct Row {
    bool known = false, gone = false;
    int pid = 0;
    std::string host;
    RankState state;
    double heard = 0;  // when the last message came
    double moved = 0;  // when its state last changed
  };
  Row& row(int rank) { return rows_[static_cast<size_t>(rank)]; }
  const Row& row(int rank) const { return rows_[static_cast<size_t>(rank)]; }
  std::string line(int rank, double now) const;

  std::vector<Row> rows_;
};

}  // namespace plsc
