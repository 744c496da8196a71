// The commands of plsc-data: each adds its options to the command line, and its work as the command's callback.
#pragma once
#include <CLI/CLI.hpp>

#include "base/log.h"

namespace plsc {

void add_synth_command(CLI::App& app, Log& log);
void add_pack_command(CLI::App& app, Log& log);
void add_pairs_command(CLI::App& app, Log& log);
void add_inspect_command(CLI::App& app, Log& log);

}  // namespace plsc
