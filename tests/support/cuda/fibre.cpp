#include "fibre.h"

#include <pthread.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <new>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace plsc::standin {
namespace {

// The address sanitizer must know which stack is in use.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kAddressSanitizer = true;
void tell_leaving(void** fake_stack, const void* stack, size_t bytes) {
  __sanitizer_start_switch_fiber(fake_stack, stack, bytes);
}
void tell_arrived(void* fake_stack) { __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr); }
void tell_gone(const void* stack, size_t bytes) { __asan_unpoison_memory_region(stack, bytes); }
#else
constexpr bool kAddressSanitizer = false;
void tell_leaving(void**, const void*, size_t) {}
void tell_arrived(void*) {}
void tell_gone(const void*, size_t) {}
#endif

// A kernel's frame is small; the sanitizer's is several times as large. The guard is as large as a frame may be that
// steps over it.
constexpr size_t kStackBytes = size_t{kAddressSanitizer ? 256 : 64} << 10;
constexpr size_t kGuardBytes = size_t{64} << 10;

// The fibre that a first resume is for.
thread_local Fibre* starting = nullptr;

}  // namespace

#ifdef __x86_64__
// Saves the registers that a call must keep on the stack of the one, and takes the other's. swapcontext would also save
// the signal mask, by a system call a switch.
extern "C" void plsc_switch_stack(void** save_here, void* continue_there);
asm(R"(
  .text
  .p2align 4
  .globl plsc_switch_stack
  .type plsc_switch_stack, @function
plsc_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size plsc_switch_stack, .-plsc_switch_stack
)");
#endif

Fibre::Fibre() {
  if (!kAddressSanitizer) return;
  pthread_attr_t attributes;
  void* stack = nullptr;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) throw std::bad_alloc();
  pthread_attr_getstack(&attributes, &stack, &stack_bytes_);
  pthread_attr_destroy(&attributes);
  stack_ = stack;
}

Fibre::Fibre(void (*entry)()) : entry_(entry) {
  void* memory =
      mmap(nullptr, kGuardBytes + kStackBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<std::byte*>(memory);
  stack_ = memory_ + kGuardBytes;
  stack_bytes_ = kStackBytes;
  if (mprotect(memory_ + kGuardBytes, kStackBytes, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
#ifdef __x86_64__
  // Stacks that all began at the same place of a page would share a few lines of the cache.
  static std::atomic<uint32_t> count{0};
  std::byte* top = memory_ + kGuardBytes + kStackBytes - (count++ % 32) * 128;
  // What plsc_switch_stack takes off: six registers and where to go; above that the return address of `begin`: none.
  auto* frame = reinterpret_cast<void**>(top) - 8;
  for (int i = 0; i < 8; ++i) frame[i] = nullptr;
  frame[6] = reinterpret_cast<void*>(&Fibre::begin);
  stack_pointer_ = frame;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = memory_ + kGuardBytes;
  context_.uc_stack.ss_size = kStackBytes;
  makecontext(&context_, &Fibre::begin, 0);
#endif
}

Fibre::~Fibre() {
  if (memory_ == nullptr) return;
  tell_gone(stack_, stack_bytes_);
  munmap(memory_, kGuardBytes + kStackBytes);
}

void Fibre::begin() {
  Fibre* self = starting;
  tell_arrived(nullptr);
  self->entry_();
}

void Fibre::switch_to(Fibre& next) {
  starting = &next;
  tell_leaving(&fake_stack_, next.stack_, next.stack_bytes_);
#ifdef __x86_64__
  plsc_switch_stack(&stack_pointer_, next.stack_pointer_);
#else
  swapcontext(&context_, &next.context_);
#endif
  tell_arrived(fake_stack_);
}

bool Fibre::overflows_at(const void* address) const {
  const auto* byte = static_cast<const std::byte*>(address);
  return memory_ != nullptr && byte >= memory_ && byte < memory_ + kGuardBytes;
}

}  // namespace plsc::standin
