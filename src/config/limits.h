// Limits that a configuration and a command line share.
#pragma once

namespace plsc {

inline constexpr int kMostRanks = 1 << 20;  // of a run, and of a plan

}  // namespace plsc
