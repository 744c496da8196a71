#include "app/command_line.h"

#include <CLI/CLI.hpp>

#include "app/exit_status.h"
#include "app/version.h"

namespace plsc {
namespace {

constexpr const char* kExamples = R"(Examples:
  plsc-train -c configs/quickstart.yaml                          train; starts its own ranks
  plsc-train -c my.yaml -o train.epochs=2 -o head.scale=32       with other values
  mpirun -np 16 --hostfile hosts plsc-train -c my.yaml           train on these ranks
  srun --mpi=pmix plsc-train -c my.yaml                          the same under Slurm
  plsc-train eval -c my.yaml --checkpoint runs/x/checkpoints/step_00001200
  plsc-train embed --checkpoint runs/x/checkpoints/step_00001200 --input photos --output emb.npy --flip-sum
  plsc-train inspect --checkpoint runs/x/checkpoints/step_00001200
  plsc-train config -c my.yaml                                   every value, and where it came from
  plsc-train doctor -c my.yaml                                   whether it could run here, and how fast

The same command goes on where an interrupted run stopped. Every key: configs/README.md)";

void add_overrides(CLI::App& app, CommandLine& line, const std::string& more = "") {
  app.add_option("-o,--override", line.overrides, "key.path=value, the value read as YAML; may be repeated" + more)
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
}

void add_config_options(CLI::App& app, CommandLine& line, bool required) {
  auto* option = app.add_option("-c,--config", line.config, "YAML file; configs/README.md explains every key");
  if (required) option->required();
  add_overrides(app, line);
}

CLI::Option* add_checkpoint_option(CLI::App& app, CommandLine& line) {
  return app.add_option("--checkpoint", line.checkpoint, "checkpoint folder (.../checkpoints/step_N)")->required();
}

void add_eval(CLI::App& app, CommandLine& line) {
  auto* sub = app.add_subcommand("eval", "evaluate a checkpoint on the sets of eval.sets, on all ranks");
  add_config_options(*sub, line, true);
  add_checkpoint_option(*sub, line);
  sub->add_option("--roc", line.roc, "draw the ROC curves to this PNG");
  sub->callback([&line] { line.command = Command::eval; });
}

void add_embed(CLI::App& app, CommandLine& line) {
  auto* sub = app.add_subcommand("embed", "compute embeddings of images, on all ranks");
  add_checkpoint_option(*sub, line);
  add_overrides(*sub, line,
                "; over the checkpoint's own configuration: train.precision=fp32, data.resize=stretch, ...");
  sub->add_option("--input", line.input,
                  "image folder, list file or .rec; images of another size than data.image_size are cropped and scaled "
                  "(data.resize: fit_crop; with -o data.resize=exact they are an error)")
      ->required();
  sub->add_option("--output", line.output, "embeddings (N, D) fp32 as .npy; the paths go beside them as .txt")
      ->required();
  sub->add_flag("--flip-sum", line.flip_sum, "add the embedding of the mirrored image, as verification does");
  sub->add_option("--top", line.top,
                  "also write the K classes of largest cosine (linear head: logit) for each image (.top.tsv)")
      ->type_name("K")
      ->check(CLI::Range(int64_t{1}, int64_t{1000}));
  sub->add_option("--batch-size", line.batch_size, "images a rank at a time")->check(CLI::PositiveNumber);
  sub->add_option("--ranks", line.ranks, "ranks to start (default: as the checkpoint's configuration says)")
      ->check(CLI::PositiveNumber);
  sub->callback([&line] { line.command = Command::embed; });
}

void add_inspect(CLI::App& app, CommandLine& line) {
  auto* sub = app.add_subcommand("inspect", "show a checkpoint's manifest and shards, and verify every checksum");
  add_checkpoint_option(*sub, line);
  sub->callback([&line] { line.command = Command::inspect; });
}

void add_config(CLI::App& app, CommandLine& line) {
  auto* sub = app.add_subcommand("config", "print the effective configuration, each value with where it came from");
  add_config_options(*sub, line, false);
  sub->add_flag("--reference", line.reference, "print every key with its default and meaning instead");
  sub->callback([&line] { line.command = Command::config; });
}

constexpr const char* kDoctorExamples = R"(Examples:
  plsc-train doctor                                  this machine, one rank a GPU
  plsc-train doctor -c my.yaml                       and whether this configuration could be trained on it
  plsc-train doctor --ranks 4 -o device=cpu          four ranks of its own
  mpirun -np 16 --hostfile hosts plsc-train doctor   all hosts, and each link between them
  srun --mpi=pmix plsc-train doctor -c my.yaml       the same under Slurm
  plsc-train doctor --json > doctor.json             for scripts

It takes about half a minute, changes nothing, and leaves nothing behind. Exit status: 0 training could run (there may
be warnings), 1 it could not.

The JSON is one object: program, verdict (ok, warn, fail), exit_status, ranks, hosts, seconds; lines [{section, grade,
text}]; findings [{grade, section, where, text, hint}]; facts [{rank, host, section, name, and number with unit (B, B/s,
FLOP/s, images/s, s), or text}]. Of an error in the configuration it has program, verdict, exit_status and findings
alone.)";

void add_doctor(CLI::App& app, CommandLine& line) {
  auto* sub = app.add_subcommand(
      "doctor", "examine machine, GPUs, network and disk, on all ranks; with -c, whether it could be trained");
  add_config_options(*sub, line, false);
  sub->add_option("--ranks", line.ranks, "ranks to start (default: as the configuration says, or one a GPU)")
      ->check(CLI::PositiveNumber);
  sub->add_option("--output", line.output, "folder whose disk is examined (default: the configuration's, or this one)");
  sub->add_flag("--json", line.json, "print JSON in place of the sheet");
  sub->add_option("--limit", line.limit, "seconds that each part may take at most")
      ->capture_default_str()
      ->check(CLI::Range(5.0, 86400.0));
  sub->footer(kDoctorExamples);
  sub->callback([&line] { line.command = Command::doctor; });
}

}  // namespace

bool parse_command_line(int argc, char** argv, CommandLine& line, int& exit_code) {
  CLI::App app("plsc-train: trains classifiers with millions of classes, sharded over MPI ranks", "plsc-train");
  app.footer(kExamples);
  app.set_version_flag("--version", std::string("plsc-train ") + kVersion);
  app.require_subcommand(0, 1);
  add_config_options(app, line, false);
  app.add_option("--resume", line.resume,
                 "auto: go on from the newest whole checkpoint of `output` (default); none: start over; "
                 "or a checkpoint folder")
      ->type_name("auto|none|DIR");
  add_eval(app, line);
  add_embed(app, line);
  add_inspect(app, line);
  add_config(app, line);
  add_doctor(app, line);
  try {
    app.parse(argc, argv);
    const bool needs_file = line.command == Command::train || (line.command == Command::config && !line.reference);
    if (needs_file && line.config.empty()) {
      throw CLI::RequiredError("-c FILE (or a subcommand)");
    }
  } catch (const CLI::ParseError& e) {
    exit_code = app.exit(e) == 0 ? 0 : kExitUsage;
    return false;
  }
  return true;
}

}  // namespace plsc
