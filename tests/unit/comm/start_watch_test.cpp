// A start that takes too long ends the process with words.
#include "comm/start_watch.h"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>

#include "support/catch.h"

using namespace plsc;

namespace {
struct End {
  int status = 0;    // of waitpid
  std::string text;  // written to standard error
};
/// A child process that is blocked for `blocked` while its start may take `limit` seconds.
End end_of_start(double limit, std::chrono::milliseconds blocked) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], 2);
    {
      const StartWatch watch(limit, 0);
      std::this_thread::sleep_for(blocked);
    }
    ::_exit(3);
  }
  ::close(ends[1]);
  End end;
  char piece[256];
  for (ssize_t n; (n = ::read(ends[0], piece, sizeof piece)) > 0;) end.text.append(piece, static_cast<size_t>(n));
  ::close(ends[0]);
  ::waitpid(child, &end.status, 0);
  return end;
}
}  // namespace

TEST_CASE("a start that is blocked ends the process and says what to do") {
  const End end = end_of_start(0.1, std::chrono::minutes(10));
  CHECK(WIFEXITED(end.status));
  CHECK(WEXITSTATUS(end.status) == 1);
  CHECK(end.text.find("rank 0: error: the ranks have not reached each other") != std::string::npos);
  CHECK(end.text.find("OMPI_MCA_btl_tcp_if_include") != std::string::npos);
}

TEST_CASE("a start in time goes on") {
  const End end = end_of_start(600, std::chrono::milliseconds(1));
  CHECK(WEXITSTATUS(end.status) == 3);
  CHECK(end.text.empty());
}
