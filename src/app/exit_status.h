// What the program's exit status says: 0 complete, 1 an error, and these.
#pragma once

namespace plsc {

/// Stopped by SIGINT, SIGTERM, SIGUSR1 or SIGUSR2, with all that was learnt in a checkpoint: run it again, and it goes
/// on. EX_TEMPFAIL of sysexits.h; batch scripts put the job back into the queue on it.
constexpr int kExitInterrupted = 75;

/// The command line is not understood.
constexpr int kExitUsage = 2;

}  // namespace plsc
