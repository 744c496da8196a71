// Ranks that die, hang, freeze, fail or are told to stop, under the launcher and under a plain mpirun: the others end,
// the right rank is named, the message comes once, the status is right, and no process is left.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "base/clock.h"
#include "support/catch.h"
#include "support/error_text.h"

using namespace plsc;
using test::contains;

namespace {

// Generous: the machine may be busy with other tests. A program that takes this long hangs.
constexpr double kLimit = 90;

struct Outcome {
  int status = -1;  // as a shell shows it
  std::string output;
  double seconds = 0;
};

using Variables = std::map<std::string, std::string>;

[[noreturn]] void exec_program(const std::vector<std::string>& words, const Variables& variables, int output) {
  ::setpgid(0, 0);
  ::dup2(output, 1);
  ::dup2(output, 2);
  for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  ::_exit(126);
}

/// Runs a program to its end; `at_ready(pid)` is called once it has printed READY. It cannot outlast kLimit.
Outcome run(const std::vector<std::string>& words, const Variables& variables = {},
            const std::function<void(pid_t)>& at_ready = nullptr) {
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  const pid_t child = ::fork();
  if (child == 0) exec_program(words, variables, ends[1]);
  ::close(ends[1]);
  Outcome result;
  const Stopwatch watch;
  bool told = false;
  for (bool open = true; open;) {
    pollfd ready{ends[0], POLLIN, 0};
    std::array<char, 4096> buffer;
    const int found = ::poll(&ready, 1, 200);
    const ssize_t n = found > 0 ? ::read(ends[0], buffer.data(), buffer.size()) : -1;
    if (found > 0 && n <= 0) open = false;
    if (n > 0) result.output.append(buffer.data(), static_cast<size_t>(n));
    if (at_ready && !told && contains(result.output, "READY")) {
      told = true;
      at_ready(child);
    }
    if (watch.seconds() > kLimit) {
      ::kill(-child, SIGKILL);
      result.output += "\n(ended by the test's watchdog)";
      break;
    }
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.seconds = watch.seconds();
  return result;
}

std::string variable(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value ? value : otherwise;
}
std::string program() { return variable("PLSC_RANK_PROGRAM", "bin/rank_program"); }

Outcome launched(int ranks, std::vector<std::string> arguments, const Variables& variables = {},
                 const std::function<void(pid_t)>& at_ready = nullptr) {
  std::vector<std::string> words{program(), "--launch", std::to_string(ranks)};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return run(words, variables, at_ready);
}

Outcome under_mpirun(int ranks, const std::vector<std::string>& arguments) {
  std::vector<std::string> words{variable("PLSC_MPIRUN", "mpirun"), "-np", std::to_string(ranks), program()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  Variables variables;
  for (const char* name : {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "PRTE_ALLOW_RUN_AS_ROOT",
                           "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"}) {
    variables[name] = "1";
  }
  variables["PRTE_MCA_rmaps_default_mapping_policy"] = ":oversubscribe";
  variables["OMPI_MCA_hwloc_base_binding_policy"] = variables["PRTE_MCA_hwloc_default_binding_policy"] = "none";
  return run(words, variables);
}

/// The ranks that said their process number and run now (zombies of a container's init do not count).
int running(const std::string& output) {
  int alive = 0;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    int rank = 0, pid = 0;
    if (std::sscanf(line.c_str(), "rank %d pid %d", &rank, &pid) != 2) continue;
    char state = 'X';
    if (FILE* stat = std::fopen(("/proc/" + std::to_string(pid) + "/stat").c_str(), "r")) {
      if (std::fscanf(stat, "%*d %*s %c", &state) != 1) state = 'X';
      std::fclose(stat);
    }
    alive += state != 'X' && state != 'Z';
  }
  return alive;
}

/// Those that still run some seconds later: on a busy machine a process that was killed takes its time to go.
int survivors(const std::string& output) {
  const Stopwatch watch;
  while (running(output) > 0 && watch.seconds() < 10) ::usleep(50'000);
  return running(output);
}

int count(const std::string& text, const std::string& part) {
  int n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

}  // namespace

TEST_CASE("the launcher runs ranks and passes their status on") {
  const Outcome good = launched(3, {"run"});
  INFO(good.output);
  CHECK(good.status == 0);
  CHECK(contains(good.output, "done: sum 3 of 3"));
  CHECK(count(good.output, "threads 1") >= 2);  // three ranks on any machine of less than six cores
  CHECK_FALSE(contains(good.output, "LAUNCHER"));

  const Outcome bad = launched(2, {"status"});
  INFO(bad.output);
  CHECK(bad.status == 5);
}

TEST_CASE("a rank that is killed is named, and the others end within 30 s") {
  const int victim = GENERATE(0, 2);
  const std::string action = GENERATE("die", "die_unprotected");
  const Outcome result = launched(3, {action, std::to_string(victim)});
  INFO(result.output);
  CHECK(result.status != 0);
  CHECK(result.seconds < 30);
  CHECK(contains(result.output, "LAUNCHER: rank " + std::to_string(victim) + " (host "));
  CHECK(contains(result.output, "died (last seen in step "));
  CHECK(count(result.output, "plsc-train: ") == 0);  // the launcher tells it, once
  CHECK(count(result.output, "died") == 1);
  CHECK(survivors(result.output) == 0);
}

TEST_CASE("the same under a plain mpirun: a rank says it") {
  const int victim = GENERATE(0, 1);
  const Outcome result = under_mpirun(3, {"die", std::to_string(victim)});
  INFO(result.output);
  CHECK(result.status != 0);
  CHECK(result.seconds < 30);
  // mpirun may be faster than the rank that wants to speak; it names the rank as well.
  CHECK(contains(result.output, "rank " + std::to_string(victim)));
  CHECK(survivors(result.output) == 0);
}

TEST_CASE("a rank that leaves without a word is named") {
  const Outcome result = launched(3, {"exit", "1"});
  INFO(result.output);
  CHECK(result.status != 0);
  CHECK(contains(result.output, "LAUNCHER: rank 1 (host "));
  CHECK(survivors(result.output) == 0);
}

TEST_CASE("a rank that hangs is named after the time-out") {
  const int victim = GENERATE(0, 1);
  const Outcome result = launched(3, {"--timeout", "3", "hang", std::to_string(victim)});
  INFO(result.output);
  CHECK(result.status != 0);
  CHECK(contains(result.output, "Missing: rank " + std::to_string(victim) + " (host "));
  CHECK(contains(result.output, "step 5, phase backward"));
  CHECK(contains(result.output, "comm.timeout"));
  CHECK(count(result.output, "plsc-train: ") == 1);
  CHECK(survivors(result.output) == 0);
}

TEST_CASE("a rank whose process is stopped is named after the time-out") {
  const int victim = GENERATE(0, 2);
  const Outcome result = launched(3, {"--timeout", "8", "freeze", std::to_string(victim)});
  INFO(result.output);
  CHECK(result.status != 0);
  CHECK(contains(result.output, "rank " + std::to_string(victim) + " (host "));
  CHECK(contains(result.output, "its process is stopped"));
  CHECK(survivors(result.output) == 0);
}

TEST_CASE("an error of one rank is printed once, with its rank, and ends all") {
  const int victim = GENERATE(0, 1);
  const Outcome result = launched(3, {"throw", std::to_string(victim)});
  INFO(result.output);
  CHECK(result.status == 1);
  const std::string message = "plsc-train: rank " + std::to_string(victim) + ": error: the disk is full\n";
  CHECK(contains(result.output, message + "  hint: free some space"));
  CHECK(count(result.output, "plsc-train: ") == 1);
  CHECK(survivors(result.output) == 0);
}

TEST_CASE("an error that all ranks agree on is printed once") {
  const Outcome result = launched(3, {"disagree", "1"});
  INFO(result.output);
  CHECK(result.status == 1);
  CHECK(count(result.output, "rank 1: the file is broken") == 1);
  CHECK(survivors(result.output) == 0);
}

TEST_CASE("signals to the launcher reach the ranks, which stop in order") {
  const int number = GENERATE(SIGTERM, SIGINT, SIGUSR1, SIGUSR2);
  const Outcome result = launched(2, {"until_signal"}, {}, [&](pid_t child) { ::kill(child, number); });
  INFO("signal " << number << "\n" << result.output);
  CHECK(result.status == 0);
  CHECK(contains(result.output, number == SIGUSR2 ? "SIGUSR2: sum 1 of 2" : "SIGUSR1: sum 1 of 2"));
  CHECK(survivors(result.output) == 0);
}

TEST_CASE("a second interrupt ends ranks that do not stop") {
  const Outcome result = launched(2, {"deaf"}, {}, [](pid_t child) {
    ::kill(child, SIGINT);
    ::usleep(300'000);  // pending signals of one kind are one
    ::kill(child, SIGINT);
  });
  INFO(result.output);
  CHECK(result.status != 0);
  CHECK(result.seconds < 30);
  CHECK(contains(result.output, "LAUNCHER: ended at a second interrupt"));
  CHECK_FALSE(contains(result.output, "died"));
  CHECK(survivors(result.output) == 0);
}

TEST_CASE("no mpirun: the package to install is named") {
  const Outcome result = launched(2, {"run"}, {{"PATH", "/nowhere"}});
  INFO(result.output);
  CHECK(result.status == 1);
  CHECK(contains(result.output, "openmpi-bin"));
}

TEST_CASE("srun without PMIx is refused by every task, once") {
  const Variables slurm{{"SLURM_JOB_ID", "9"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "4"}};
  Variables task = slurm;
  task["SLURM_PROCID"] = "0";
  const Outcome first = run({program(), "run"}, task);
  INFO(first.output);
  CHECK(first.status == 1);
  CHECK(contains(first.output, "srun --mpi=pmix"));
  task["SLURM_PROCID"] = "2";
  const Outcome other = run({program(), "run"}, task);
  CHECK(other.status == 1);
  CHECK(other.output.empty());
}

TEST_CASE("one rank needs no MPI and no launcher") {
  const Outcome result = run({program(), "run"});
  INFO(result.output);
  CHECK(result.status == 0);
  CHECK(contains(result.output, "done: sum 0 of 1"));
  const Outcome failing = run({program(), "throw", "0"});
  INFO(failing.output);
  CHECK(failing.status == 1);
  CHECK(contains(failing.output, "plsc-train: error: the disk is full"));
}
