#include "fault_handler.h"

#include <cstddef>
#include <vector>

namespace plsc::standin {
namespace {

thread_local FaultHandler* current = nullptr;
thread_local std::vector<std::byte> own_stack;

}  // namespace

FaultHandler::FaultHandler(std::function<void(const void*)> explain) : explain_(std::move(explain)) {
  own_stack.resize(size_t{64} << 10);
  const stack_t stack{.ss_sp = own_stack.data(), .ss_flags = 0, .ss_size = own_stack.size()};
  sigaltstack(&stack, &former_stack_);
  current = this;
  struct sigaction action {};
  action.sa_sigaction = &FaultHandler::handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &action, &former_);
}

FaultHandler::~FaultHandler() {
  sigaction(SIGSEGV, &former_, nullptr);
  sigaltstack(&former_stack_, nullptr);
  current = nullptr;
}

void FaultHandler::handle(int, siginfo_t* info, void*) {
  FaultHandler* self = current;
  if (self != nullptr) {
    self->explain_(info->si_addr);
    sigaction(SIGSEGV, &self->former_,
              nullptr);  // the text that failed is tried again, and fails for the former handler
  } else {
    signal(SIGSEGV, SIG_DFL);
  }
}

}  // namespace plsc::standin
