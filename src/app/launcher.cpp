// mpirun as a child process. Options go through the environment, where those of Open MPI 4 and 5 do not collide.
#include "app/launcher.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "app/exit_status.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/files.h"
#include "base/log.h"
#include "base/threads.h"

namespace plsc {
namespace {

constexpr int kKillSeconds = 10;  // from a second SIGINT to SIGKILL
// mpirun takes signals before it has ranks to forward them to. As long as it may be starting them, a request is
// repeated every second; ranks that have heard it do not mind.
constexpr double kStartSeconds = 30;

std::string find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    std::string file = (folder.empty() ? "." : folder) + "/" + name;
    if (::access(file.c_str(), X_OK) == 0) return file;
  }
  return "";
}

/// Whether this kernel lets a process read another's memory: some containers forbid it, and then Open MPI's way of
/// copying between ranks fails in the middle of the run.
bool may_read_processes() {
  int value = 1, copy = 0;
  const iovec from{&value, sizeof value}, to{&copy, sizeof copy};
  return ::process_vm_readv(::getpid(), &to, 1, &from, 1, 0) == sizeof value;
}

/// A file that the monitor appends to; removed with this object.
class LossFile {
 public:
  LossFile() {
    path_ = (std::filesystem::temp_directory_path() / "plsc-train.XXXXXX").string();
    const int fd = ::mkstemp(path_.data());
    if (fd < 0) fail("cannot create a temporary file {}: {}", path_, std::strerror(errno));
    ::close(fd);
  }
  ~LossFile() { ::unlink(path_.c_str()); }
  LossFile(const LossFile&) = delete;
  LossFile& operator=(const LossFile&) = delete;
  const std::string& path() const { return path_; }
  /// One line for each rank: several survivors may tell of rank 0, each with the place that it heard of last.
  std::vector<std::string> lines() const {
    std::vector<std::string> kept;
    std::istringstream text(read_text(path_));
    for (std::string line; std::getline(text, line);) {
      const std::string who = line.substr(0, line.find(" died"));
      const auto same = [&](const std::string& other) { return other.rfind(who, 0) == 0; };
      if (std::none_of(kept.begin(), kept.end(), same)) kept.push_back(line);
    }
    return kept;
  }

 private:
  std::string path_;
};

/// The signals that this process takes instead of dying, blocked while it lives and read by `next`.
class SignalQueue {
 public:
  SignalQueue() {
    ::sigemptyset(&set_);
    for (int number : {SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGCHLD}) ::sigaddset(&set_, number);
    ::sigprocmask(SIG_BLOCK, &set_, &before_);
  }
  ~SignalQueue() { restore(); }
  SignalQueue(const SignalQueue&) = delete;
  SignalQueue& operator=(const SignalQueue&) = delete;
  /// A child starts with this process's mask.
  void restore() const { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
  /// The next signal's number; 0 after a second without one.
  int next() const {
    const timespec second{1, 0};
    const int number = ::sigtimedwait(&set_, nullptr, &second);
    return number > 0 ? number : 0;
  }

 private:
  sigset_t set_{}, before_{};
};

[[noreturn]] void become(const std::vector<std::string>& command, const std::vector<std::string>& variables) {
  // Its own process group: a Ctrl-C at the terminal reaches this program alone, which passes it on its own way.
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGINT);
  // A scheduler that ends a job sends SIGTERM to every process of it. The ranks save then; mpirun would kill them one
  // second later. Blocked it stays (mpirun unblocks it for the ranks alone); what ends mpirun here is SIGINT.
  sigset_t held;
  ::sigemptyset(&held);
  ::sigaddset(&held, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &held, nullptr);
  const int nothing = ::open("/dev/null", O_RDONLY);
  ::dup2(nothing, 0);  // a background process group may not read the terminal
  for (const std::string& variable : variables) {
    const size_t equals = variable.find('=');
    ::setenv(variable.substr(0, equals).c_str(), variable.c_str() + equals + 1, 0);
  }
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

struct ChildEnd {
  int status = 0;       // as of waitpid
  int asked = 0;        // the first signal that was passed on
  bool forced = false;  // at a second interrupt
};

/// Passes signals on until the child has ended.
ChildEnd wait_and_forward(pid_t child, const SignalQueue& signals) {
  int requests = 0, asked = 0, repeated = 0, seconds_since_kill = 0, status = 0;
  const Stopwatch since_start;
  for (;;) {
    if (::waitpid(child, &status, WNOHANG) == child) return {status, asked, requests > 1};
    const int number = signals.next();
    if (number == 0 && requests > 1 && ++seconds_since_kill > kKillSeconds) ::kill(child, SIGKILL);
    if (number == 0 && repeated != 0 && since_start.seconds() < kStartSeconds) ::kill(child, repeated);
    if (number == 0 || number == SIGCHLD) continue;
    if (asked == 0) asked = number;
    if (number == SIGINT || number == SIGTERM) ++requests;
    repeated = requests > 1 ? 0 : number == SIGUSR2 ? SIGUSR2 : SIGUSR1;
    ::kill(child, repeated != 0 ? repeated : SIGINT);
  }
}

/// What the ranks are to start: this program, or the script of a bundle that has started it with its libraries (the
/// running file may then be the dynamic loader).
std::string own_program() {
  const char* script = std::getenv("PLSC_EXECUTABLE");
  return script != nullptr ? script : std::filesystem::read_symlink("/proc/self/exe").string();
}

/// What mpirun's end and the ranks' last words come to.
LaunchResult judge(const ChildEnd& end, const std::vector<std::string>& losses, bool resumable) {
  LaunchResult result;
  result.status = WIFEXITED(end.status) ? WEXITSTATUS(end.status) : 128 + WTERMSIG(end.status);
  if (end.forced) {
    result.losses = {"ended at a second interrupt"};  // ranks that the user has killed are no news
  } else if (end.asked != 0 && (result.status == 128 + SIGUSR1 || result.status == 128 + SIGUSR2)) {
    // So early that the ranks, or mpirun itself, did not take the signal as a request.
    result.losses = {
        fmt::format("ended at once by signal {} ({}): there is nothing to save", end.asked, ::strsignal(end.asked))};
    result.status = resumable ? kExitInterrupted : 128 + end.asked;
  } else if (end.asked == 0 || result.status != kExitInterrupted) {  // ranks that were asked to end are no news either
    result.losses = losses;
  }
  if (result.status > 128 && result.losses.empty()) {
    result.losses.push_back(
        fmt::format("the ranks were ended by signal {} ({})", result.status - 128, ::strsignal(result.status - 128)));
  }
  return result;
}

std::vector<std::string> mpirun_command(const LaunchOptions& options) {
  std::string mpirun = find_program("mpirun");
  if (mpirun.empty()) mpirun = find_program("mpiexec");
  if (mpirun.empty()) {
    fail_hint("install it (Debian: apt-get install openmpi-bin), or run one rank: ranks: 1",
              "{} ranks need mpirun, which is not in PATH", options.ranks);
  }
  std::vector<std::string> command{mpirun, "-np", std::to_string(options.ranks), own_program()};
  command.insert(command.end(), options.arguments.begin(), options.arguments.end());
  return command;
}

}  // namespace

std::vector<std::string> launch_variables(int ranks, int threads, int cores) {
  std::vector<std::string> variables{
      "PLSC_LAUNCHED=" + std::to_string(ranks),
      "OMP_NUM_THREADS=" + std::to_string(threads),
      // More ranks than slots, and no binding: Open MPI would bind one or two ranks to one core each.
      "OMPI_MCA_rmaps_base_oversubscribe=1",
      "OMPI_MCA_hwloc_base_binding_policy=none",
      "PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe",
      "PRTE_MCA_hwloc_default_binding_policy=none",
      // No page of advice when a rank ends the others: the rank has said why.
      "OMPI_MCA_orte_execute_quiet=1",
      "PRTE_MCA_prte_execute_quiet=1",
  };
  // Idle OpenMP threads spin by default, which takes the cores from ranks that compute.
  if (ranks * threads > cores) variables.push_back("OMP_WAIT_POLICY=passive");
  if (::geteuid() == 0) {
    for (const char* name : {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "PRTE_ALLOW_RUN_AS_ROOT",
                             "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM"}) {
      variables.push_back(std::string(name) + "=1");
    }
  }
  if (!may_read_processes()) {
    variables.push_back("OMPI_MCA_btl_vader_single_copy_mechanism=none");
    variables.push_back("OMPI_MCA_smsc=^cma");
  }
  return variables;
}

LaunchResult launch_ranks(const LaunchOptions& options) {
  const std::vector<std::string> command = mpirun_command(options);
  const int cores = available_cores();
  const int threads = options.threads > 0 ? options.threads : std::max(1, cores / options.ranks);
  const LossFile losses;
  std::vector<std::string> variables = launch_variables(options.ranks, threads, cores);
  variables.push_back("PLSC_LOSS_FILE=" + losses.path());
  // The ranks write to mpirun's pipes; whether a terminal is behind them only this process can see.
  variables.push_back("PLSC_TERMINAL=" + std::to_string(Console::standard().columns));

  const SignalQueue signals;
  const pid_t child = ::fork();
  if (child < 0) fail("cannot start mpirun: {}", std::strerror(errno));
  if (child == 0) {
    signals.restore();
    become(command, variables);
  }
  const ChildEnd end = wait_and_forward(child, signals);
  if (WIFEXITED(end.status) && WEXITSTATUS(end.status) == 127) fail("{} could not be started", command[0]);
  return judge(end, losses.lines(), options.resumable);
}

}  // namespace plsc
