// The subcommands of plsc-train.
#pragma once
#include "app/command_line.h"
#include "config/config.h"

namespace plsc {

class StopSignal;
class World;

/// Runs what the command line asks for, on ranks of its own where that is needed. Catches everything: prints an error
/// once with its rank, ends all ranks, returns the exit status.
int run_command(const CommandLine& line, int argc, char** argv);

// The commands that run on ranks.
/// Takes requests to stop from where it can save; kExitInterrupted after one.
int train_command(const CommandLine& line, const LoadedConfig& loaded, World& world, const StopSignal& stop);
int eval_command(const CommandLine& line, const LoadedConfig& loaded, World& world);
int embed_command(const CommandLine& line, const LoadedConfig& loaded, World& world);

struct DoctorEnd {
  int status = 0;
  int abandoned = 0;  // probes that hang in threads of this process: it must end without tidying up
};
DoctorEnd doctor_command(const CommandLine& line, const LoadedConfig& loaded, World& world);

// Those that need none.
int inspect_command(const CommandLine& line);
int config_command(const CommandLine& line);
/// 0: it fits, or no room is known; 1: it does not.
int plan_command(const CommandLine& line);

}  // namespace plsc
