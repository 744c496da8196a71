#include "app/commands.h"

#include <algorithm>

#include "app/launcher.h"
#include "app/world.h"
#include "base/error.h"
#include "base/stop_signal.h"
#include "checkpoint/checkpoint.h"
#include "train/state.h"

namespace plsc {
namespace {

/// The configuration that a command runs with; embed has the one that its checkpoint was trained with.
LoadedConfig load_for(const CommandLine& line) {
  if (line.command != Command::embed) return load_config(line.config, line.overrides);
  const auto reader = CheckpointReader::open(line.checkpoint);
  const RunMeta meta = RunMeta::from_json(reader->meta(), reader->folder());
  LoadedConfig loaded = parse_config(meta.config, reader->folder() + "/manifest.json");
  if (line.ranks > 0) loaded.config.ranks = line.ranks;
  return loaded;
}

int launch(const LoadedConfig& loaded, int argc, char** argv) {
  LaunchOptions options;
  options.ranks = static_cast<int>(loaded.config.ranks);
  options.threads = static_cast<int>(loaded.config.train.threads);
  options.arguments.assign(argv + 1, argv + argc);
  const LaunchResult result = launch_ranks(options);
  for (const std::string& loss : result.losses) fmt::print(stderr, "plsc-train: {}\n", loss);
  return result.status;
}

int run_on_ranks(const CommandLine& line, int argc, char** argv) {
  const LoadedConfig loaded = load_for(line);
  World::Options options;
  options.timeout = loaded.config.comm.timeout;
  options.threads = static_cast<int>(loaded.config.train.threads);
  if (needs_launcher(options.environment, static_cast<int>(std::max<int64_t>(loaded.config.ranks, 1)))) {
    return launch(loaded, argc, argv);
  }
  return run_in_world(options, [&](World& world) {
    if (line.command == Command::eval) return eval_command(line, loaded, world);
    if (line.command == Command::embed) return embed_command(line, loaded, world);
    StopSignal stop;
    return train_command(line, loaded, world, stop);
  });
}

}  // namespace

int run_command(const CommandLine& line, int argc, char** argv) {
  try {
    if (line.command == Command::inspect) return inspect_command(line);
    if (line.command == Command::config) return config_command(line);
    return run_on_ranks(line, argc, argv);
  } catch (const std::exception& error) {
    return leave_alone(error, read_launch_environment());
  }
}

}  // namespace plsc
