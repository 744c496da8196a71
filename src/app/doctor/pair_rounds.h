// Which hosts talk with which, in rounds where each has one partner at most: a pure function.
#pragma once
#include <utility>
#include <vector>

namespace plsc::doctor {

struct PairRounds {
  std::vector<std::vector<std::pair<int, int>>> rounds;  // of pairs (leader, other), as numbers of hosts from 0
  bool all = true;                                       // every pair is there; else neighbours alone
};
/// Up to 12 hosts each meets each; beyond that each meets those at the distances 1, 2, 4, ... around the ring, so that
/// the number of rounds grows with the logarithm of the number of hosts.
PairRounds pair_rounds(int hosts);

}  // namespace plsc::doctor
