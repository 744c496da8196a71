// A request to stop that came as a signal: the trainer reads it between steps, saves, and ends in order.
#pragma once
#include <string>

namespace plsc {

/// While it lives, SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 set a flag instead of ending the process (schedulers announce
/// the end of an allocation by one of them). A second SIGINT ends the process at once, as it would without this object.
/// One at a time.
class StopSignal {
 public:
  /// What a signal does while nobody reads the flag yet: the process writes `words` to standard error and ends with
  /// `status`, whatever it is doing.
  struct Early {
    int status = 1;
    std::string words;  // with the end of the line; empty: nothing is written
  };
  /// The flag counts from the start.
  StopSignal();
  /// The flag counts from `take_requests` on.
  explicit StopSignal(Early early);
  /// Signals end the process again; but after a request SIGUSR1 and SIGUSR2 are ignored: they only repeat it.
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// From now on the loop that reads the flag is what stops.
  void take_requests() const;

  bool requested() const { return signal() != 0; }
  /// The first signal's number; 0: none came.
  int signal() const;
  /// "SIGTERM", for the log.
  const char* name() const;

 private:
  void install();

  const Early early_;  // the handler's, until take_requests
};

}  // namespace plsc
