// The command line of plsc-train: what the user asked for, as values.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace plsc {

enum class Command { train, eval, embed, inspect, config, doctor };

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
  bool reference = false;              // config: the reference of every key
  std::string roc;                     // eval: PNG to draw
  int64_t ranks = 0;                   // embed, doctor; 0: auto
  bool json = false;                   // doctor
  double limit = 90;                   // doctor: seconds for each part
};

/// Parses; for --help and --version prints, and for errors explains, and then sets `exit_code` and returns false.
bool parse_command_line(int argc, char** argv, CommandLine& line, int& exit_code);

}  // namespace plsc
