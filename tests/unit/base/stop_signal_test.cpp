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

TEST_CASE("after it signals act as before") {
  const int status = status_of_child([] {
    { const StopSignal stop; }
    ::raise(SIGTERM);
  });
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGTERM);
}
