// Memory faults of emulated kernels, told in a sentence.
#pragma once
#include <signal.h>

#include <functional>

namespace plsc::standin {

/// While it lives, a memory fault of this thread calls `explain` with the address, on a stack of its own. Where that
/// returns, the fault is the former handler's. One at a time in the process.
class FaultHandler {
 public:
  explicit FaultHandler(std::function<void(const void* address)> explain);
  ~FaultHandler();
  FaultHandler(const FaultHandler&) = delete;
  FaultHandler& operator=(const FaultHandler&) = delete;

 private:
  static void handle(int signal, siginfo_t* info, void* context);

  std::function<void(const void*)> explain_;
  struct sigaction former_ {};
  stack_t former_stack_{};
};

}  // namespace plsc::standin
