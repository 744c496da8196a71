// A full disk without one.
#pragma once
#include <sys/resource.h>

#include <csignal>

#include "support/catch.h"

namespace plsc::test {

/// While it lives, no file grows beyond `bytes`: a write stops there, as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    old_action_ = ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &old_);
    struct rlimit now {
      bytes, old_.rlim_max
    };
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &now) == 0);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, old_action_);
  }

 private:
  struct rlimit old_ {};
  void (*old_action_)(int) = nullptr;
};

}  // namespace plsc::test
