// Handlers that set a flag. The flag, and what to do instead of setting it, are the only variables of this project that
// no object owns: a signal handler has no argument to reach an object by.
#include "base/stop_signal.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>

#include <utility>

#include "base/error.h"

namespace plsc {
namespace {

constexpr std::array kSignals{SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

std::atomic<bool> installed{false};
std::atomic<int> received{0};
std::atomic<const StopSignal::Early*> early{nullptr};  // null: the flag counts
static_assert(std::atomic<int>::is_always_lock_free && decltype(early)::is_always_lock_free,
              "a signal handler may not lock");

void on_signal(int number) {
  if (const StopSignal::Early* at_once = early.load()) {
    // Nothing can be done about words that cannot be written.
    static_cast<void>(::write(2, at_once->words.data(), at_once->words.size()) == 0);
    ::_exit(at_once->status);
  }
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

StopSignal::StopSignal() { install(); }

StopSignal::StopSignal(Early early_end) : early_(std::move(early_end)) {
  PLSC_CHECK(!installed.load(), "a second StopSignal");
  early.store(&early_);
  install();
}

void StopSignal::install() {
  PLSC_CHECK(!installed.exchange(true), "a second StopSignal");
  received.store(0);
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  sigset_t ours;
  ::sigemptyset(&ours);
  for (int number : kSignals) {
    ::sigaction(number, &action, nullptr);
    ::sigaddset(&ours, number);
  }
  // A starter may have blocked them for itself, which its children inherit.
  ::pthread_sigmask(SIG_UNBLOCK, &ours, nullptr);
}

void StopSignal::take_requests() const { early.store(nullptr); }

StopSignal::~StopSignal() {
  for (int number : kSignals) {
    struct sigaction after {};
    // Starters that cannot know that they were heard may say it again.
    const bool repeated = requested() && (number == SIGUSR1 || number == SIGUSR2);
    after.sa_handler = repeated ? SIG_IGN : SIG_DFL;
    ::sigaction(number, &after, nullptr);
  }
  early.store(nullptr);
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
