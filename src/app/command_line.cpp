#include "app/command_line.h"

#include <CLI/CLI.hpp>

#include "app/exit_status.h"
#include "app/plan/gpus.h"
#include "app/quantity.h"
#include "app/version.h"
#include "base/error.h"
#include "config/limits.h"

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
  plsc-train plan -c my.yaml --ranks 8 --device-memory 80GiB     what it would take on other machines, and how fast

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

void add_weights(CLI::App& app, CommandLine& line) {
  app.add_option("--weights", line.weights,
                 "the network's weights, or their average, where train.ema kept one (default: as eval.weights says)")
      ->check(CLI::IsMember({"raw", "ema"}));
}

void add_eval(CLI::App& app, CommandLine& line) {
  auto* sub = app.add_subcommand("eval", "evaluate a checkpoint on the sets of eval.sets, on all ranks");
  add_config_options(*sub, line, true);
  add_checkpoint_option(*sub, line);
  add_weights(*sub, line);
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
  add_weights(*sub, line);
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

constexpr const char* kPlanExamples = R"(Examples:
  plsc-train plan -c my.yaml                                      as this machine would train it
  plsc-train plan -c my.yaml --measure                            and how long a step would take here
  plsc-train plan -c my.yaml --ranks 8 --device-memory 80GiB      on eight GPUs, from a machine that has none
  plsc-train plan -c my.yaml --device-memory 80GiB --tflops 400 --memory-gbps 3000 --link-gbps 400 \
      -o train.precision=bf16 --sweep ranks=8,64,256              a line for each number of ranks
  plsc-train plan -c my.yaml --gpu A100 --network-gbps 100 --sweep ranks=8,64,256   on hosts of eight A100

Nothing is trained, and no memory of that size is taken: the training's own network, head and step run on a device that
only counts. Exit status: 0 it fits (or no room is known, which it says), 1 it does not. GPUs: device: auto means them
where this machine has some, or --device-memory is given. Sizes are as in a configuration: 80GiB, 500MB. Times are
bounds by the given rates: an op takes as long as its products or its memory traffic, whichever is more. Collectives
travel beside what the step does before it waits for them, so that gradients are hidden by the backward pass as far as
its rest is long enough, and the head's gathers and sums by another micro-batch where there is one (train.pipeline).
Between hosts (of --gpus-per-node) they go by --network-gbps, which the ranks of a host share, within one by
--link-gbps, and the slower of the two decides. With --gpu (its link is NVLink) or --gpus-per-node there is no time of
ranks on several hosts without --network-gbps; with neither, and of hosts of one rank, a given --link-gbps goes from
each rank to any other. A batch that grows (train.grow) is planned at its largest. Of compressed gradients with a
warm-up (comm.compress.warmup_epochs) what is sent and the time are of a step behind it; in it more is sent, and memory
is its, of the first epoch. With head.store.tier: host a GPU's rows are its host's memory: how many fit is known where
that is, and the time where --host-gbps is. What cuDNN takes is an assumption: for a convolution's workspace, twice its
weights in fp32.

The JSON is one object (with --sweep a list of such): ranks, device, precision, classes, rows (classes of a rank),
active (of these in a step), images (of the rank in a step), growth (how many times as large as the first such a step is:
train.grow), parameters; moment (of the peak), memory {purpose: bytes} then, kept, counted
(what the program itself will count; of a GPU's memory with what is kept for reuse and by recordings, by which nothing
is judged), host_memory, device_bytes, host_bytes, device_room, host_room, fits; phases [{phase, flop, bytes, far
(bytes between a GPU and its host's memory), sent, messages (that these are, where each rank sends to every other
itself, as over MPI), seconds, exposed (of these, waiting for other ranks)}], graph (such a phase less its messages:
building the class graph once; null where there is none), step_seconds, exposed_seconds, images_per_second;
largest_classes, largest_capped (it is the most that any training could have, not what memory holds), largest_replicated
(with all classes on each rank; null where the two are not alike but for the sharding), advice; missing_room (options
without which it is not judged: a fits of true then says nothing), missing_rates (options without which some seconds are
null). An entry of --sweep that could not be trained has ranks, fits and error alone.)";

void add_plan(CLI::App& app, CommandLine& line) {
  auto* sub = app.add_subcommand("plan", "what a training would take of memory and time, without running it");
  PlanLine& plan = line.plan;
  add_config_options(*sub, line, true);
  const auto of_ranks = [&](const std::string& names, auto& value, const char* help) {
    const auto take = [&value, name = names.substr(0, names.find(','))](const std::string& t) {
      value = static_cast<std::remove_reference_t<decltype(value)>>(whole_option(name, t, kMostRanks));
    };
    sub->add_option_function<std::string>(names, take, help)->type_name("N");
  };
  const auto of_memory = [&](const char* name, int64_t& value, const char* help) {
    const auto take = [&value, name](const std::string& t) { value = memory_option(name, t); };
    sub->add_option_function<std::string>(name, take, help)->type_name("SIZE");
  };
  const auto of_rate = [&](const char* name, double& value, const char* help) {
    const auto take = [&value, name](const std::string& t) { value = positive_option(name, t); };
    sub->add_option_function<std::string>(name, take, help)->type_name("NUMBER");
  };
  of_ranks("--ranks", line.ranks, "ranks (default: as the configuration says, or one a GPU)");
  of_memory("--device-memory", plan.device_memory, "of one GPU: 80GiB (default: this machine's)");
  of_memory("--host-memory", plan.host_memory,
            "of one host: 1TiB (default: what is free on this one; of GPUs that are not here it is not known)");
  of_ranks("--ranks-per-host,--gpus-per-node", plan.ranks_per_host,
           "that share a host's memory, and its network, at most (default: 8)");
  sub->add_option("--gpu", plan.gpu, "plan for this GPU, by the table below; options that are given come before it")
      ->type_name("NAME");
  of_rate("--link-gbps", plan.link_gbps,
          "Gbit/s that a rank can send to others, with --network-gbps to those of its host");
  of_rate(
      "--network-gbps", plan.network_gbps,
      "Gbit/s that a host can send to others, for all of its ranks (default: each rank has its --link-gbps; with --gpu "
      "or --gpus-per-node it is not known)");
  of_rate("--tflops", plan.tflops, "TFLOP/s of a rank's matrix products, in the precision of the training");
  of_rate("--memory-gbps", plan.memory_gbps, "Gbyte/s that a rank's memory reads and writes");
  of_rate("--host-gbps", plan.host_gbps, "Gbyte/s between a GPU and its host's memory (head.store.tier: host)");
  sub->add_flag("--measure", plan.measure, "measure products and memory on this machine, where they are not given");
  sub->add_option("--sweep", plan.sweep, "a line for each number of ranks")->type_name("ranks=N,N,...");
  sub->add_flag("--json", line.json, "print JSON in place of the table");
  sub->footer(kPlanExamples + ("\n\n" + plan::gpu_table()));
  sub->callback([&line] { line.command = Command::plan; });
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
  add_plan(app, line);
  try {
    app.parse(argc, argv);
    const bool needs_file = line.command == Command::train || (line.command == Command::config && !line.reference);
    if (needs_file && line.config.empty()) {
      throw CLI::RequiredError("-c FILE (or a subcommand)");
    }
  } catch (const Error& e) {  // what an option says
    app.exit(CLI::ValidationError(e.what()));
    exit_code = kExitUsage;
    return false;
  } catch (const CLI::ParseError& e) {
    exit_code = app.exit(e) == 0 ? 0 : kExitUsage;
    return false;
  }
  return true;
}

}  // namespace plsc
