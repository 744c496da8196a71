// Errors that several ranks throw at once, for one cause: who of them tells the user.
#pragma once
#include "base/error.h"

namespace plsc {

enum class Voice {
  speak,   // this rank prints the error
  wait,    // another rank prints it: give it some seconds to end the run; speak when it does not
  silent,  // it has been printed already, or the launcher will
};

/// Thrown for one cause on several ranks.
class SharedError : public Error {
 public:
  SharedError(const std::string& message, Voice voice, const std::string& hint = "")
      : Error(message, hint), voice_(voice) {}
  Voice voice() const { return voice_; }

 private:
  Voice voice_;
};

/// What agree_or_fail throws: every rank threw it at the same place of the common sequence, so they may catch it and go
/// on together. The message names the rank where one alone has failed.
class AgreedError : public SharedError {
 public:
  using SharedError::SharedError;
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
