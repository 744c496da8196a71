// A host that touches device memory, told in a sentence.
#include <signal.h>
#include <unistd.h>

#include <mutex>

#include "memory.h"

namespace plsc::standin {
namespace {

struct sigaction former;

void handle(int, siginfo_t* info, void*) {
  // The fault was in the host's code, so this thread holds none of the locks that the search takes.
  const auto block = find_block(info->si_addr);
  if (block && block->kind == MemoryKind::device) {
    constexpr char kText[] = "stand-in: the host reads or writes device memory; the stack says where\n";
    const auto written = write(STDERR_FILENO, kText, sizeof(kText) - 1);
    static_cast<void>(written);
  }
  sigaction(SIGSEGV, &former, nullptr);  // the same instruction faults again, and is the former handler's
}

}  // namespace

void explain_host_access() {
#ifndef PLSC_SANITIZE  // which has a handler of its own, and says more
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &former);
  });
#else
  static_cast<void>(handle);
  static_cast<void>(former);
#endif
}

}  // namespace plsc::standin
