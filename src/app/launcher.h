// Starts this program's own ranks on this host by mpirun, and stays beside it: forwards signals, waits, and reports.
#pragma once
#include <string>
#include <vector>

namespace plsc {

struct LaunchOptions {
  int ranks = 2;
  std::vector<std::string> arguments;  // of main, without the program's name
  int threads = 0;                     // compute threads of a rank; 0: the cores divided by the ranks
  bool resumable = false;              // they train: see kExitInterrupted
};

struct LaunchResult {
  int status = 0;                   // what the program should return: the ranks' own, or 128 + a signal's number
  std::vector<std::string> losses;  // "rank 2 (host a, pid 71) died in step 17, phase backward"
};

/// Runs `ranks` copies of this program and returns when all have ended. SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 ask the
/// ranks to stop in order (they get SIGUSR1 or SIGUSR2: mpirun forwards these two, while on SIGINT and SIGTERM it
/// would kill them), or end them at once where they have not begun to train; a second SIGINT or SIGTERM always does.
/// A SIGTERM to all processes at once, as schedulers send it, is held back from mpirun. With `resumable` the status of
/// a run that was asked to stop and did so is kExitInterrupted. Throws Error when there is no mpirun.
LaunchResult launch_ranks(const LaunchOptions& options);

/// The variables that the ranks are started with, beside the environment that there is (which wins where both name
/// one): "NAME=value". For `ranks` ranks of `threads` threads on `cores` cores. Open MPI 4 and 5 name theirs apart.
std::vector<std::string> launch_variables(int ranks, int threads, int cores);

}  // namespace plsc
