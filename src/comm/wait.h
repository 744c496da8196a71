// Waiting for a collective: polls with a back-off, watches for lost ranks and for the time-out. Knows nothing of MPI.
#pragma once
#include <string>

#include "comm/collective.h"
#include "comm/errors.h"

namespace plsc {

/// What a time-out's message says about the others, and whether this rank is the one that tells the user.
struct MissingReport {
  std::string text;  // "rank 2 (host a, pid 71), step 17, phase backward, there for 12 s"
  Voice voice = Voice::speak;
};

/// Who is told of every wait, and knows about the other ranks while this one waits. Monitor is one.
class WaitWatch {
 public:
  virtual ~WaitWatch() = default;
  /// `what` lives until `end_wait`.
  virtual void begin_wait(const std::string& what) = 0;
  virtual void end_wait() noexcept = 0;
  /// The end of a wait that other ranks need not have had: how far this rank is counts as before `begin_wait`.
  virtual void withdraw_wait() noexcept = 0;
  /// Throws PeerLost once another rank is known to be gone. Called at every poll, so it must be cheap.
  virtual void check_peers() = 0;
  /// Asks which ranks are missing; may take some seconds.
  virtual MissingReport missing() = 0;
};

struct WaitPolicy {
  double timeout = 600;  // seconds
  /// Poll without a pause at first: right where every thread of the local ranks has a core of its own.
  bool spin = true;
  WaitWatch* watch = nullptr;  // may be null
  /// Every rank has this wait, at the same place of the common sequence: it counts when the watch compares the ranks.
  bool common = true;
};

/// Returns once `request` is complete. Throws TimeoutError, PeerLost, or what the request's poll throws.
void wait_for(Request& request, const std::string& what, const WaitPolicy& policy);

}  // namespace plsc
