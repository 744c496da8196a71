// plsc-train: parse, run, report. An error is printed once, with its rank, and ends all ranks.
#include <csignal>

#include "app/command_line.h"
#include "app/commands.h"

int main(int argc, char** argv) {
  // A file that may not grow is an error of its write, like a full disk, and not the end of the process.
  std::signal(SIGXFSZ, SIG_IGN);
  plsc::CommandLine line;
  int exit_code = 0;
  if (!plsc::parse_command_line(argc, argv, line, exit_code)) return exit_code;
  return plsc::run_command(line, argc, argv);
}
