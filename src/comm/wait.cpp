// The polling loop. It never blocks inside the communication library, whose own waiting burns a core.
#include "comm/wait.h"

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/clock.h"
#include "comm/errors.h"

namespace plsc {
namespace {

// Polls without a pause at first. For a time, not for a number of them: a poll of shared memory takes 50 ns, one that
// asks sockets more than 1 us, and the core may be one that a peer, or the kernel with a message in hand, is waiting
// for.
constexpr double kSpinSeconds = 50e-6;
// Then sleeps, each a part of the time waited so far: little is lost at the end of the wait, and a rank that waits long
// costs two hundredths of a core. Never sched_yield(): ranks that yield to one another all the time make the scheduler
// of Linux 6.18 (before its "zero_vruntime tracking" was mended) forget every other program on these cores for tens of
// seconds, mpirun that has a signal to pass on among them. Shorter sleeps are little better where ranks outnumber
// cores: with 5 us a rank that waited took the other's time, and a step of eight exchanges between four hosts on two
// cores took 48 ms in place of 17.
constexpr double kSleepPart = .05, kShortestSleep = 50e-6, kLongestSleep = 300e-6;
constexpr unsigned long kTimerSlack = 1000;  // ns

void pause(double waited, bool spin) {
  if (spin && waited < kSpinSeconds) return;
  ::prctl(PR_SET_TIMERSLACK, kTimerSlack);  // of this thread; Linux would add 50 us to each sleep
  std::this_thread::sleep_for(
      std::chrono::duration<double>(std::clamp(waited * kSleepPart, kShortestSleep, kLongestSleep)));
}

/// Tells the watch that the wait is over, however it ends: `what` must not be used after it.
class Announced {
 public:
  Announced(const WaitPolicy& policy, const std::string& what) : watch_(policy.watch), common_(policy.common) {
    if (watch_) watch_->begin_wait(what);
  }
  ~Announced() {
    if (watch_ && common_) watch_->end_wait();
    if (watch_ && !common_) watch_->withdraw_wait();
  }
  Announced(const Announced&) = delete;
  Announced& operator=(const Announced&) = delete;

 private:
  WaitWatch* watch_;
  bool common_;
};

[[noreturn]] void time_out(const std::string& what, const WaitPolicy& policy) {
  MissingReport report{"which rank is missing is not known: there is no monitor", Voice::speak};
  if (policy.watch) report = policy.watch->missing();
  throw TimeoutError(fmt::format("waited {:.3g} s for the other ranks: {}. {}", policy.timeout, what, report.text),
                     report.voice, "if a step may really take that long, raise comm.timeout");
}

}  // namespace

void wait_for(Request& request, const std::string& what, const WaitPolicy& policy) {
  const Announced announced(policy, what);
  const Stopwatch since_start;
  while (!request.poll()) {
    if (policy.watch) policy.watch->check_peers();
    const double waited = since_start.seconds();
    if (waited > policy.timeout) time_out(what, policy);
    pause(waited, policy.spin);
  }
}

}  // namespace plsc
