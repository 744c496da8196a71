// A request to stop that came as a signal: the trainer reads it between steps, saves, and ends in order.
#pragma once

namespace plsc {

/// While it lives, SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 set a flag instead of ending the process (schedulers announce
/// the end of an allocation by one of them). A second SIGINT ends the process at once, as it would without this object.
/// One at a time: made just before the loop that reads it, so that until then a signal ends the program as ever.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  bool requested() const { return signal() != 0; }
  /// The first signal's number; 0: none came.
  int signal() const;
  /// "SIGTERM", for the log.
  const char* name() const;
};

}  // namespace plsc
