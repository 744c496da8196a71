// Errors that several ranks throw at once: who of them tells the user.
#pragma once
#include "base/error.h"

namespace plsc {

/// Thrown for one cause on several ranks. `speaker` is true on the one that should print it; the others end silently.
class SharedError : public Error {
 public:
  SharedError(const std::string& message, bool speaker, const std::string& hint = "")
      : Error(message, hint), speaker_(speaker) {}
  bool speaker() const { return speaker_; }

 private:
  bool speaker_;
};

/// Another rank has died or has failed.
class PeerLost : public SharedError {
 public:
  using SharedError::SharedError;
};

/// A collective did not complete in time; the message names the ranks that are missing.
class TimeoutError : public SharedError {
 public:
  using SharedError::SharedError;
};

}  // namespace plsc
