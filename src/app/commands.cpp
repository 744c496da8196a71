#include "app/commands.h"

#include <unistd.h>

#include <cstdio>
#include <optional>

#include "app/devices.h"
#include "app/doctor/patience.h"
#include "app/doctor/report.h"
#include "app/exit_status.h"
#include "app/launcher.h"
#include "app/world.h"
#include "base/error.h"
#include "base/stop_signal.h"
#include "checkpoint/checkpoint.h"
#include "train/state.h"

namespace plsc {
namespace {

constexpr double kDoctorGrace = 30;  // seconds that the doctor's ranks wait for each other beyond a part's limit

/// The configuration that a checkpoint was trained with, and what the command line changes of it. Images to embed come
/// in all sizes, those to train on in one: where the training took no other, embed crops and scales, as the
/// verification of .bin sets does.
LoadedConfig config_of_checkpoint(const CommandLine& line) {
  const auto reader = CheckpointReader::open(line.checkpoint);
  if (reader->ranks() == 0) {
    fail_hint(
        "name the checkpoint's folder (.../checkpoints/step_N); `plsc-train eval` and init.from take weights alone",
        "{} holds weights alone: embed needs a checkpoint folder, whose manifest describes the network",
        line.checkpoint);
  }
  const RunMeta meta = RunMeta::from_json(reader->meta(), reader->folder());
  const std::string where = reader->folder() + "/manifest.json";
  std::vector<std::string> overrides = line.overrides;
  if (parse_config(meta.config, where).config.data.resize == "exact") {
    overrides.insert(overrides.begin(), "data.resize=fit_crop");
  }
  LoadedConfig loaded = parse_config(meta.config, where, overrides);
  if (line.ranks > 0) loaded.config.ranks = line.ranks;
  return loaded;
}

/// Without a file: the defaults, on made-up data, into this folder.
LoadedConfig config_of_doctor(const CommandLine& line) {
  LoadedConfig loaded = line.config.empty()
                            ? parse_config("{data: {train: synthetic}, output: .}", "plsc-train doctor", line.overrides)
                            : load_config(line.config, line.overrides);
  if (!line.output.empty()) loaded.config.output = line.output;
  if (line.ranks > 0) loaded.config.ranks = line.ranks;
  return loaded;
}

/// A script that reads the doctor's JSON gets it in this case, too. The error itself goes its usual way.
void tell_as_json(const CommandLine& line, const std::string& problem) {
  if (line.command != Command::doctor || !line.json) return;
  const std::string text = doctor::error_json("configuration", problem);
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

LoadedConfig config_of(const CommandLine& line) {
  if (line.command == Command::embed) return config_of_checkpoint(line);
  if (line.command == Command::doctor) return config_of_doctor(line);
  return load_config(line.config, line.overrides);
}

/// `--weights` is not validated with the rest: the checkpoint says whether it has an average, not this configuration.
LoadedConfig config_with_weights(const CommandLine& line) {
  LoadedConfig loaded = config_of(line);
  if (!line.weights.empty()) loaded.config.eval.weights = line.weights;
  return loaded;
}

/// Whether there is a GPU that answers; a driver that hangs is for the doctor's sheet to tell, as a device that is not
/// there.
bool gpu_answers(double seconds) {
  doctor::Patience patience(seconds);
  return patience.attempt<bool>(seconds, [] { return !probe_cuda().gpus.empty(); }).value.value_or(false);
}

/// Processes to start where nobody else has started them.
int wanted_ranks(const CommandLine& line, const Config& config) {
  if (config.ranks > 0) return static_cast<int>(config.ranks);
  if (line.command == Command::doctor && config.device != "cpu" && !gpu_answers(line.limit)) return 1;
  return config.device == "cpu" ? 1 : automatic_ranks(config, probe_cuda());
}

/// Starts `options.ranks` ranks of this program and tells how they ended.
int launch(LaunchOptions options, int argc, char** argv) {
  options.arguments.assign(argv + 1, argv + argc);
  const LaunchResult result = launch_ranks(options);
  for (const std::string& loss : result.losses) fmt::print(stderr, "plsc-train: {}\n", loss);
  return result.status;
}

/// A signal before the first step: nothing is lost by ending at once, and the same command begins again.
StopSignal::Early end_before_training(const LaunchEnvironment& environment) {
  const bool speaks = environment.rank == 0;
  return {kExitInterrupted,
          speaks ? "plsc-train: ended by a signal before the first step: there is nothing to save\n" : ""};
}

int run_on_ranks(const CommandLine& line, int argc, char** argv) {
  LoadedConfig loaded;
  World::Options options;
  std::string problem;
  try {
    loaded = config_with_weights(line);
    options.timeout = line.command == Command::doctor ? line.limit + kDoctorGrace : loaded.config.comm.timeout;
    options.threads = static_cast<int>(loaded.config.train.threads);
  } catch (const std::exception& error) {
    if (options.environment.rank <= 0) tell_as_json(line, error.what());
    // Most likely every rank has the same to say: together they tell it once.
    if (!options.environment.under_mpi) throw;
    problem = error.what();
  }
  const int ranks = options.environment.under_mpi ? 1 : wanted_ranks(line, loaded.config);
  const bool trains = line.command == Command::train;
  if (needs_launcher(options.environment, ranks)) {
    LaunchOptions own;
    own.ranks = ranks;
    own.threads = options.threads;
    own.resumable = trains;
    return launch(own, argc, argv);
  }
  std::optional<StopSignal> stop;
  if (trains) stop.emplace(end_before_training(options.environment));
  int abandoned = 0;
  const int status = run_in_world(options, [&](World& world) {
    agree_or_fail(world.host_collective(), problem);
    if (line.command == Command::doctor) {
      const DoctorEnd end = doctor_command(line, loaded, world);
      abandoned = end.abandoned;
      return end.status;
    }
    if (line.command == Command::eval) return eval_command(line, loaded, world);
    if (line.command == Command::embed) return embed_command(line, loaded, world);
    try {
      return train_command(line, loaded, world, *stop);
    } catch (...) {
      stop.reset();  // from here on a signal is the end that another rank's error brings
      throw;
    }
  });
  // A thread that hangs in a file system may still use what an orderly end would take from it.
  if (abandoned > 0) ::_exit(status);
  return status;
}

}  // namespace

int run_command(const CommandLine& line, int argc, char** argv) {
  try {
    if (line.command == Command::inspect) return inspect_command(line);
    if (line.command == Command::config) return config_command(line);
    if (line.command == Command::plan) return plan_command(line);
    return run_on_ranks(line, argc, argv);
  } catch (const std::exception& error) {
    return leave_alone(error, read_launch_environment());
  }
}

}  // namespace plsc
