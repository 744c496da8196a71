#include "standin_ranks.h"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <stdexcept>
#include <thread>
#include <vector>

namespace plsc::standin {
namespace {

[[noreturn]] void play(const Rank& rank, const std::function<void(const Rank&)>& body, int pipe_end) {
  signal(SIGSEGV, SIG_DFL);  // the test program's is for itself
  std::string message;
  try {
    Options mine = options();
    mine.devices = rank.ranks;
    mine.seed = static_cast<uint64_t>(rank.rank) + 1;
    mine.idle_ms = 2;
    set_options(mine);
    const ThrowMisuse throwing;
    cudaSetDevice(rank.rank);
    body(rank);
    message = "good";
  } catch (const std::exception& e) {
    message = e.what();
  }
  const bool written = write(pipe_end, message.data(), message.size()) == static_cast<ssize_t>(message.size());
  _exit(written ? 0 : 1);  // no destructors of the parent's objects
}

std::string read_all(int pipe_end) {
  std::string text;
  char part[256];
  for (ssize_t n = 0; (n = read(pipe_end, part, sizeof(part))) > 0;) text.append(part, static_cast<size_t>(n));
  return text;
}

bool ends_in_time(pid_t process) {
  const auto start = std::chrono::steady_clock::now();
  while (waitpid(process, nullptr, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() - start > std::chrono::minutes(1)) {
      kill(process, SIGKILL);
      waitpid(process, nullptr, 0);
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace

std::vector<Ending> run_ranks(int ranks, const std::function<void(const Rank&)>& body) {
  Rank rank;
  rank.ranks = ranks;
  ncclGetUniqueId(&rank.id);
  std::vector<std::pair<pid_t, int>> processes;
  for (rank.rank = 0; rank.rank < ranks; ++rank.rank) {
    int ends[2];
    expect(pipe(ends) == 0, "a pipe");
    const pid_t process = fork();
    expect(process >= 0, "a process");
    if (process == 0) play(rank, body, ends[1]);
    close(ends[1]);
    processes.emplace_back(process, ends[0]);
  }
  std::vector<Ending> endings;
  for (const auto& [process, pipe_end] : processes) {
    const bool ended = ends_in_time(process);
    const std::string message = read_all(pipe_end);
    close(pipe_end);
    endings.push_back({message == "good", ended ? message : "killed: it did not end"});
  }
  return endings;
}

void expect(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error(what);
}

}  // namespace plsc::standin
