// The command line of plsc-train: what the user asked for, as values.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace plsc {

enum class Command { train, eval, embed, inspect, config, doctor, plan };

/// What a plan is told of machines that are not this one. 0: not told.
struct PlanLine {
  int64_t device_memory = 0, host_memory = 0;  // bytes: of a GPU, and of a host
  int ranks_per_host = 0;
  double link_gbps = 0;    // Gbit/s that a rank sends
  double tflops = 0;       // of a rank's matrix products, in the training's precision
  double memory_gbps = 0;  // Gbyte/s that a rank's memory moves
  double host_gbps = 0;    // Gbyte/s between a GPU and its host's memory
  bool measure = false;    // products and copies, on this machine
  std::string sweep;       // "ranks=8,64,256"
};

struct CommandLine {
  Command command = Command::train;
  std::string config;                  // -c
  std::vector<std::string> overrides;  // -o key.path=value
  std::string resume = "auto";         // auto | none | folder
  std::string checkpoint;              // eval, embed, inspect
  std::string input, output;           // embed; doctor: output alone
  bool flip_sum = false;               // embed
  int64_t top = 0;                     // embed: nearest classes
  int64_t batch_size = 64;             // embed: images a rank
  std::string weights;                 // eval, embed: raw | ema; empty: as eval.weights says
  bool reference = false;              // config: the reference of every key
  std::string roc;                     // eval: PNG to draw
  int64_t ranks = 0;                   // embed, doctor, plan; 0: auto
  bool json = false;                   // doctor, plan
  double limit = 90;                   // doctor: seconds for each part
  PlanLine plan;
};

/// Parses; for --help and --version prints, and for errors explains, and then sets `exit_code` and returns false.
bool parse_command_line(int argc, char** argv, CommandLine& line, int& exit_code);

}  // namespace plsc
