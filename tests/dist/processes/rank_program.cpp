// A run without a network: ranks that step through collectives while one of them misbehaves.
//   rank_program [--launch RANKS] [--timeout SECONDS] ACTION [VICTIM]
// Actions at step 5 of the victim: die, die_unprotected (the ranks take signals as they come), exit, hang, freeze,
// throw, disagree. Others: run, status, until_signal, deaf.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>

#include "app/launcher.h"
#include "app/world.h"
#include "base/stop_signal.h"

using namespace plsc;

namespace {

struct Command {
  int launch = 0;
  double timeout = 120;
  std::string action = "run";
  int victim = -1;
};

Command parse(int argc, char** argv) {
  Command c;
  int at = 1;
  for (; at + 1 < argc && argv[at][0] == '-'; at += 2) {
    if (std::string(argv[at]) == "--launch") c.launch = std::atoi(argv[at + 1]);
    if (std::string(argv[at]) == "--timeout") c.timeout = std::atof(argv[at + 1]);
  }
  if (at < argc) c.action = argv[at];
  if (at + 1 < argc) c.victim = std::atoi(argv[at + 1]);
  return c;
}

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

/// What the victim does in the middle of step 5; the error that it would agree on.
std::string misbehave(const std::string& action) {
  if (action.rfind("die", 0) == 0) ::raise(SIGKILL);
  if (action == "exit") ::_exit(7);
  if (action == "hang") sleep_ms(600'000);
  if (action == "freeze") ::raise(SIGSTOP);
  if (action == "throw") fail_hint("free some space", "the disk is full");
  return action == "disagree" ? "the file is broken" : "";
}

double one_step(World& world, int64_t step, const Command& command, const std::string& problem) {
  world.note(step, "forward");
  Tensor t = Tensor::from<float>({1.0F, static_cast<float>(world.rank())}, {2});
  world.device_collective().all_reduce(t, ReduceOp::sum, "the logit sums");
  world.note(step, "backward");
  std::string error = problem;
  if (step == 5 && world.rank() == command.victim) error = misbehave(command.action);
  agree_or_fail(world.host_collective(), error);
  return t.data<float>()[1];
}

int run(World& world, const Command& command) {
  std::optional<StopSignal> stop;
  if (command.action != "die_unprotected") stop.emplace();
  std::printf("rank %d pid %d threads %d\n", world.rank(), ::getpid(), world.threads());
  std::fflush(stdout);
  if (command.action == "status") return 5;
  const bool deaf = command.action == "deaf", endless = deaf || command.action == "until_signal";
  double sum = 0;
  int64_t step = 1;
  for (; endless || step <= 10; ++step) {
    sum = one_step(world, step, command, "");
    sleep_ms(endless ? 20 : 250);  // a heartbeat comes every 200 ms: the monitor has seen a step or two by step 5
    if (endless && step == 5 && world.rank() == 0) std::printf("READY\n"), std::fflush(stdout);
    Tensor asked = Tensor::from<int64_t>({stop ? stop->signal() : 0}, {1});
    world.host_collective().all_reduce(asked, ReduceOp::max, "the decision to stop");
    if (endless && !deaf && asked.data<int64_t>()[0] != 0) break;
  }
  if (world.rank() == 0) std::printf("%s: sum %g of %d\n", endless ? stop->name() : "done", sum, world.size());
  return 0;
}

int launch(const Command& command) {
  LaunchOptions options;
  options.ranks = command.launch;
  options.arguments = {"--timeout", std::to_string(command.timeout), command.action, std::to_string(command.victim)};
  try {
    const LaunchResult result = launch_ranks(options);
    for (const std::string& loss : result.losses) std::fprintf(stderr, "LAUNCHER: %s\n", loss.c_str());
    return result.status;
  } catch (const Error& error) {
    std::fprintf(stderr, "LAUNCHER: %s\n", error.what());
    return 1;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Command command = parse(argc, argv);
  if (command.launch > 0) return launch(command);
  World::Options options;
  options.timeout = command.timeout;
  return run_in_world(options, [&](World& world) { return run(world, command); });
}
