// Handlers that set a flag. The flag is the one variable of this project that is not owned by an object: a signal
// handler has no argument to reach an object by.
#include "base/stop_signal.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>

#include "base/error.h"

namespace plsc {
namespace {

constexpr std::array kSignals{SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

std::atomic<bool> installed{false};
std::atomic<int> received{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may not lock");

void on_signal(int number) {
  int none = 0;
  if (received.compare_exchange_strong(none, number) || number != SIGINT) return;
  if (none != SIGINT) {
    received.store(SIGINT);  // SIGTERM first, then the user's first Ctrl-C: still a polite request
    return;
  }
  struct sigaction plain {};
  plain.sa_handler = SIG_DFL;
  ::sigaction(SIGINT, &plain, nullptr);
  ::raise(SIGINT);  // delivered when this handler returns
}

}  // namespace

StopSignal::StopSignal() {
  PLSC_CHECK(!installed.exchange(true), "a second StopSignal");
  received.store(0);
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  for (int number : kSignals) ::sigaction(number, &action, nullptr);
}

StopSignal::~StopSignal() {
  struct sigaction plain {};
  plain.sa_handler = SIG_DFL;
  for (int number : kSignals) ::sigaction(number, &plain, nullptr);
  installed.store(false);
}

int StopSignal::signal() const { return received.load(); }

const char* StopSignal::name() const {
  switch (signal()) {
    case 0:
      return "none";
    case SIGINT:
      return "SIGINT";
    case SIGTERM:
      return "SIGTERM";
    case SIGUSR1:
      return "SIGUSR1";
    default:
      return "SIGUSR2";
  }
}

}  // namespace plsc
