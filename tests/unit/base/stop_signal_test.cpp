// Signals that ask for an orderly stop, and the second interrupt that does not ask.
#include "base/stop_signal.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "base/error.h"
#include "support/catch.h"

using namespace plsc;

namespace {
/// Runs `work` in a child process; what waitpid says of it.
template <class Work>
int status_of_child(const Work& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    work();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}
}  // namespace

TEST_CASE("the first signal is kept") {
  for (const int number : {SIGINT, SIGTERM, SIGUSR1, SIGUSR2}) {
    const StopSignal stop;
    CHECK_FALSE(stop.requested());
    CHECK(std::string(stop.name()) == "none");
    ::raise(number);
    CHECK(stop.requested());
    CHECK(stop.signal() == number);
    ::raise(SIGUSR1);
    if (number != SIGINT) ::raise(SIGTERM);
    CHECK(stop.signal() == number);
  }
  CHECK_THROWS_AS(([] {
                    const StopSignal one;
                    const StopSignal two;
                  }()),
                  LogicError);
}

// The thread sanitizer keeps a signal that a handler raises to itself in a child of a process that has had threads.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PLSC_TEST_SIGNALS_KEPT
#endif
#endif
#ifndef PLSC_TEST_SIGNALS_KEPT
TEST_CASE("a second interrupt ends the process, a first one after a request does not") {
  int status = status_of_child([] {
    const StopSignal stop;
    ::raise(SIGINT);
    ::raise(SIGINT);
    ::_exit(3);
  });
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGINT);
  status = status_of_child([] {
    const StopSignal stop;
    ::raise(SIGTERM);
    ::raise(SIGINT);
    ::_exit(3);
  });
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 3);
}
#endif

TEST_CASE("until requests are taken a signal ends the process with the given status") {
  for (const int number : {SIGINT, SIGTERM, SIGUSR1, SIGUSR2}) {
    int status = status_of_child([&] {
      const StopSignal stop({75, ""});
      ::raise(number);
    });
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 75);
    status = status_of_child([&] {
      const StopSignal stop({75, ""});
      stop.take_requests();
      ::raise(number);
      ::_exit(stop.signal() == number ? 3 : 4);
    });
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 3);
  }
}

TEST_CASE("its words are written before the end") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const int status = status_of_child([&] {
    ::dup2(ends[1], 2);
    const StopSignal stop({75, "nothing to save\n"});
    ::raise(SIGTERM);
  });
  CHECK(WEXITSTATUS(status) == 75);
  char text[64] = {};
  CHECK(::read(ends[0], text, sizeof text - 1) > 0);
  CHECK(std::string(text) == "nothing to save\n");
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("signals that a starter has blocked arrive") {
  const int status = status_of_child([] {
    sigset_t held;
    ::sigemptyset(&held);
    ::sigaddset(&held, SIGTERM);
    ::sigprocmask(SIG_BLOCK, &held, nullptr);
    const StopSignal stop;
    ::raise(SIGTERM);
    ::_exit(stop.requested() ? 3 : 4);
  });
  CHECK(WEXITSTATUS(status) == 3);
}

TEST_CASE("after it signals act as before") {
  const int status = status_of_child([] {
    { const StopSignal stop; }
    ::raise(SIGTERM);
  });
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGTERM);
}

TEST_CASE("a request that is repeated after the work has ended costs nothing") {
  const int status = status_of_child([] {
    {
      const StopSignal stop;
      ::raise(SIGTERM);
    }
    ::raise(SIGUSR1);
    ::raise(SIGUSR2);
    ::_exit(3);
  });
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 3);
}
